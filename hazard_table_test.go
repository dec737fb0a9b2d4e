package mcpool_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// hazards are what servers do that has cost other clients a connection, and all
// callers on it, and on which transport which test holds that it does not cost
// us one. The tests assert what the faulty call gets, that a call in flight
// beside it finishes, that the next one succeeds, how long that takes, and that
// no goroutine, session, file or process is left.
//
// A cell has tests without the "Test" in front, each with its subtest behind a
// slash, and "; " between them; or it begins with "no" and says why the hazard
// cannot occur there.
var hazards = []struct {
	what                     string
	legacy, modern, sse      string // streamable HTTP of either era, HTTP+SSE
	stdioLegacy, stdioModern string
}{
	// Measured on another client.
	{"1: the session is gone: 404 with a text, no id or nothing",
		"Hazard01_SessionGoneWithoutID", "Hazard02_ModernServerGone/404 text", "SSESessionGone/404 text", noSession, noSession},
	{"2: so, with somebody's id or ours",
		"Hazard02_SessionGoneWithID/404 foreign id", "Hazard02_ModernServerGone/400 python", "SSESessionGone/404 to nobody", noSession, noSession},
	{"3: the response is no answer",
		"Hazard03_ResponseThatIsNoAnswer", "Hazard03_ResponseThatIsNoAnswer", "SSERequestThatIsNotAccepted; SSEStrayEvents", "HazardStdioCall", "HazardStdioCall"},
	{"4: the server is in trouble",
		"Hazard04_ServerInTrouble", "Hazard04_ServerInTrouble", "SSERequestThatIsNotAccepted/500; SSEStreamEnds", "HazardStdioCall/killed", "HazardStdioCall/killed"},
	{"5: a caller goes while its answer arrives",
		"Hazard05_CancelWhileJSONBodyArrives", "Hazard05_CancelWhileJSONBodyArrives", "SSECancel/accepted",
		"HazardStdioCall/the caller goes while its answer arrives", "HazardStdioCall/the caller goes while its answer arrives"},
	{"6: a stream is accepted, and no header sent",
		"Hazard06_StreamThatIsNotAnswered; Hazard06_StreamThatIsNotAnsweredOverSockets; ServersThatTellLittle/silent",
		"Hazard06_StreamThatIsNotAnswered; Hazard06_StreamThatIsNotAnsweredOverSockets",
		"SSEOpeningObeysItsContext/GET; SSEIsNotWhatItSpeaks/404, no header", "HazardStdioListen/legacy", "HazardStdioListen/not answered"},
	{"7: the stream fails, or is refused when it is taken up",
		"Hazard07_StreamFails; WatchIsBegunAgain", "Hazard07_StreamFails; WatchIsBegunAgain", "SSEStreamEnds; IdleStreamThatEnds",
		"no stream beside the calls", "HazardStdioListen/refused"},
	{"8: server/discover is ignored",
		"OpenObeysItsContext/server/discover", "OpenObeysItsContext/server/discover", "OpenObeysItsContext/server/discover",
		"HazardStdioOpen/answers initialize only", "StdioOpenSlow"},
	{"9: Close with a call in flight to a hung server",
		"Hazard09_CloseWithHungCall; Hazard09_CloseWithHungServer", "Hazard09_CloseWithHungCall", "SSECloseWithHungCalls; SSECloseIsBounded",
		"HazardStdioClose", "HazardStdioClose"},
	{"10: the server stops reading",
		"Hazard10_ServerStopsReading/legacy", "Hazard10_ServerStopsReading/modern", "Hazard10_ServerStopsReading/HTTP+SSE",
		"Hazard10_ChildStopsReading; Hazard10_CloseWhileChildDoesNotRead", "Hazard10_ChildStopsReading; Hazard10_CloseWhileChildDoesNotRead"},
	{"11: stray text between messages",
		"Hazard03_ResponseThatIsNoAnswer/garbage event", "Hazard03_ResponseThatIsNoAnswer/garbage event", "SSEStrayEvents/text",
		"Hazard11_StrayLinesOnStdout; HazardStdioCall/a stray line on stdout", "Hazard11_StrayLinesOnStdout; HazardStdioCall/a stray line on stdout"},
	{"12: the server is killed",
		"Hazard04_ServerInTrouble/reset; FaultsOverSockets", "Hazard04_ServerInTrouble/reset", "SSEStreamEnds/cut",
		"Hazard12_ChildKilled; KilledProcesses", "Hazard12_ChildKilled"},
	{"13: a wrapper swallows signals",
		noChild, noChild, noChild, "Hazard13_WrapperSwallowsSignals; HazardStdioClose/a wrapper that swallows signals",
		"Hazard13_WrapperSwallowsSignals; HazardStdioClose/a wrapper that swallows signals"},
	{"14: a check is refused, or answered from a cache",
		"Hazard14_CheckAsksTheServer/legacy", "Hazard14_CheckAsksTheServer/modern; HealthChecksAskTheServer", "Hazard14_CheckAsksTheServer/HTTP+SSE",
		"HazardStdioCheck", "HazardStdioCheck"},
	// The cache is the pool's, whatever the transport.
	{"15: what one principal was answered is kept for another",
		"FreshAnswersAreKept/legacy", "FreshAnswersAreKept/private; AnswersAreKeptForWhatWasAsked", "FreshAnswersAreKept/legacy",
		"FreshAnswersAreKept/legacy", "FreshAnswersAreKept/private"},
	{"16: who listens to something else loses what he listened to",
		"Hazard16_ListeningToSomethingElse/legacy; WatchersHearWhatTheyAskFor", "Hazard16_ListeningToSomethingElse/modern; WatchersHearWhatTheyAskFor",
		"Hazard16_ListeningToSomethingElse/HTTP+SSE; Hazard16_ChangeBehindAnAnswer", "Hazard16_ListeningToSomethingElse/stdio legacy",
		"Hazard16_ListeningToSomethingElse/stdio modern"},
	{"17: ping is not known",
		"Check/legacy unknown ping", "Check/modern unknown", "SSECheck/without ping", "HazardStdioCheck", "HazardStdioCheck"},
	{"18: each call costs a TCP connection",
		"Hazard18_TCPConnections", "Hazard18_TCPConnections", "Hazard18_TCPConnections", "no TCP", "no TCP"},
	{"19: listening fails, and something is left open",
		"Hazard07_StreamFails", "Hazard07_StreamFails", "SSEStreamEnds", "HazardStdioListen/legacy", "HazardStdioListen/refused"},
	{"20: bytes are changed on their way",
		"Hazard20_Fidelity; BytesPassUntouched", "Hazard20_Fidelity", "Hazard20_Fidelity", "Hazard20_Fidelity", "Hazard20_Fidelity"},

	// The ends of sessions, beside 1 and 2.
	{"400 with -32000 and \"session\", or words of its own",
		"Hazard02_SessionGoneWithID/400 -32000; Hazard01_SessionGoneWithoutID/400 text", "Hazard02_ModernServerGone/400 legacy",
		"SSESessionGone/400 -32000; SSESessionGone/400 text", noSession, noSession},
	{"400 with -32001", "Hazard02_SessionGoneWithID/400 -32001", "Hazard02_ModernServerGone/400 -32001", "SSESessionGone/400 -32001", noSession, noSession},
	{"-32600, \"Session not found\", terminated or expired, under any status",
		"Hazard02_SessionGoneWithID/200 -32600", "Hazard02_ModernServerGone/session words", "SSESessionGone/500 -32600", noSession, noSession},
	{"410", "Hazard01_SessionGoneWithoutID/410", "Hazard02_ModernServerGone/410", "SSESessionGone/410", noSession, noSession},
	{"405, or 404 where there is no session",
		"Hazard03_ResponseThatIsNoAnswer/405; NoSessionCannotBeLost; ServerChangesItsTransport", "Hazard02_ModernServerGone/405; ServerChangesItsTransport",
		"SSERequestThatIsNotAccepted/405", noHTTP, noHTTP},
	{"EOF", "Hazard04_ServerInTrouble/stream ends", "Hazard04_ServerInTrouble/stream ends; ModernStreamIsNotTakenUp", "SSEStreamEnds/ended",
		"HazardStdioCall/the answer is cut, then exit", "HazardStdioCall/the answer is cut, then exit"},
	{"exit", noChild, noChild, noChild, "HazardStdioCall/exit", "HazardStdioCall/exit"},
	// What ends none.
	{"-32601 is an answer, under 404 too",
		"Hazard02_SessionGoneWithID/404 -32601 is an answer", "Hazard02_ModernServerGone/404 -32601", "SSERequestThatIsNotAccepted/404 -32601",
		"HazardStdioCheck", "HazardStdioListen/refused"},
	{"401", "Hazard03_ResponseThatIsNoAnswer/401", "Hazard03_ResponseThatIsNoAnswer/401", "SSERequestThatIsNotAccepted/401", noHTTP, noHTTP},
	{"403", "Hazard03_ResponseThatIsNoAnswer/403", "Hazard03_ResponseThatIsNoAnswer/403", "SSERequestThatIsNotAccepted/403", noHTTP, noHTTP},
	{"429, with Retry-After",
		"Hazard04_ServerInTrouble/429, Retry-After; ServerIsLeftAloneAsItAsks", "Hazard04_ServerInTrouble/429, Retry-After",
		"SSERequestThatIsNotAccepted/429", noHTTP, noHTTP},
	{"500", "Hazard04_ServerInTrouble/500", "Hazard04_ServerInTrouble/500", "SSERequestThatIsNotAccepted/500", noHTTP, noHTTP},
	{"502", "Hazard04_ServerInTrouble/502", "Hazard04_ServerInTrouble/502", "SSERequestThatIsNotAccepted/502", noHTTP, noHTTP},
	{"503, with Retry-After", "Hazard04_ServerInTrouble/503, Retry-After", "Hazard04_ServerInTrouble/503, Retry-After", "SSERequestThatIsNotAccepted/503", noHTTP, noHTTP},
	{"504, 524", "Hazard04_ServerInTrouble/504", "Hazard04_ServerInTrouble/504", "SSERequestThatIsNotAccepted/504", noHTTP, noHTTP},
	{"a page with 200", "Hazard03_ResponseThatIsNoAnswer/html", "Hazard03_ResponseThatIsNoAnswer/html", "SSERequestThatIsNotAccepted/page", noHTTP, noHTTP},
	{"garbage", "Hazard03_ResponseThatIsNoAnswer/garbage", "Hazard03_ResponseThatIsNoAnswer/garbage", "SSEStrayEvents/garbage",
		"HazardStdioCall/the beginning of a stray line", "HazardStdioCall/the beginning of a stray line"},
	{"a broken body", "Hazard03_ResponseThatIsNoAnswer/cut body; AnswerCutAtAnyByte", "Hazard03_ResponseThatIsNoAnswer/cut body", "SSEStreamEnds/cut",
		"HazardStdioCall/the answer is cut, then exit; LineCutAtAnyByte", "HazardStdioCall/the answer is cut, then exit"},
	{"another Mcp-Session-Id", "Hazard03_ResponseThatIsNoAnswer/other session", noSession, "no such header", noSession, noSession},
	{"acceptance without an answer", "Hazard03_ResponseThatIsNoAnswer/202", "Hazard03_ResponseThatIsNoAnswer/202", "SSECancel/accepted",
		"HazardStdioCall/an answer under an unknown id", "HazardStdioCall/an answer under an unknown id"},
	{"a redirect", "Hazard03_ResponseThatIsNoAnswer/redirect", "Hazard03_ResponseThatIsNoAnswer/redirect", "SSERequestThatIsNotAccepted/302", noHTTP, noHTTP},
}

const (
	noSession = "no session"
	noChild   = "no child"
	noHTTP    = "no HTTP"
)

// TestHazardsNameTests holds that no cell of the table is open.
func TestHazardsNameTests(t *testing.T) {
	files := mcptest.Tests(t, ".")
	if len(hazards) < 20 {
		t.Errorf("%d hazards", len(hazards))
	}
	for _, hazard := range hazards {
		for i, cell := range []string{hazard.legacy, hazard.modern, hazard.sse, hazard.stdioLegacy, hazard.stdioModern} {
			if strings.HasPrefix(cell, "no ") {
				continue
			}
			for _, name := range strings.Split(cell, "; ") {
				test, part, _ := strings.Cut(name, "/")
				file := files["Test"+test]
				if file == "" || part != "" && !strings.Contains(file, fmt.Sprintf("%q", part)) {
					t.Errorf("%s, column %d: no test is named %q", hazard.what, i+1, name)
				}
			}
		}
	}
}
