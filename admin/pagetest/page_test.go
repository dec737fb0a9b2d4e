package pagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// world is what an operator may see on a day: four servers, some of them slow to
// open, and clients of three.
func world(t *testing.T) (*gateway, map[string]*load) {
	t.Helper()
	pool := map[string]any{"sharing": "shared", "max_connections": 6, "calls_per_connection": 4}
	g := serve(t, []backend{
		{name: "sales", server: &mcptest.Server{Name: "warehouse", OpenDelay: 300 * time.Millisecond}, pool: pool},
		{name: "search", server: &mcptest.Server{Name: "search", OpenDelay: 100 * time.Millisecond}, pool: pool},
		{name: "tickets", server: &mcptest.Server{Name: "tickets", OpenDelay: 700 * time.Millisecond}, pool: pool},
		{name: "archive", server: &mcptest.Server{Name: "archive"}, pool: pool},
	})
	return g, map[string]*load{
		"sales":   g.call(t, "sales", 14, 60*time.Millisecond),
		"search":  g.call(t, "search", 6, 25*time.Millisecond),
		"tickets": g.call(t, "tickets", 3, 400*time.Millisecond),
	}
}

// What is in the page, as expressions of its language.

func row(server string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#table tbody")].find((b) => b.querySelector(".name").textContent === %q)`, server)
}

func cell(server, label string) string {
	return row(server) + fmt.Sprintf(`.querySelector('[data-label=%q]')`, label)
}

func card(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".card")].find((c) => c.querySelector("h3").textContent === %q)`, name)
}

func shows(element, text string) string {
	return fmt.Sprintf(`%s?.innerText.replace(/\s+/g, " ").includes(%q)`, element, text)
}

func whole(element string) string { return element + "?.checkVisibility()" }

const (
	said    = `document.getElementById("said")`
	story   = `document.getElementById("story")`
	sure    = `document.getElementById("sure")`
	lost    = `document.getElementById("lost")`
	login   = `document.getElementById("login")`
	resting = `document.getElementById("link").dataset.state === "resting"`
	live    = `document.getElementById("link").dataset.state === "live"`
	// labelled is what the focused element, it, is called.
	labelled = `(it.getAttribute("aria-label") ?? it.innerText) === `
)

// TestOperatorWithKeyboard looks after pools under load, and touches no mouse:
// pauses one, resumes it, reads the story of a connection and kills it. No call
// fails but those that are in flight on what was killed.
func TestOperatorWithKeyboard(t *testing.T) {
	g, loads := world(t)
	p := open(t, g.url, look{})
	p.watchNumbers()
	p.pauseSales(loads)
	p.resetAndDrainSearch(loads)
	p.readStory()

	loads["sales"].stop()
	p.until("nothing to be in flight", `parseInt(`+cell("sales", "In flight")+`.innerText) === 0`)
	busy := g.call(t, "sales", 3, time.Minute) // which the kill cuts off
	p.until("the calls", `parseInt(`+cell("sales", "In flight")+`.innerText) === 3`)
	p.pauseWhatTakesLong()
	p.killConnection(busy)
	for _, server := range []string{"search", "tickets"} {
		loads[server].unharmed(t)
	}
	p.clean("504 (Gateway Timeout)") // of the pause that took longer
}

// watchNumbers sees the numbers of pools under load move.
func (p *tab) watchNumbers() {
	p.t.Helper()
	p.until("the numbers to be there", live+" && "+p.over(cell("sales", "Calls/s"), 0)+" && "+whole(row("sales")+`.querySelector(".box")`))
	calls, avoided := p.number(card("Calls/s")+`.querySelector(".value")`), p.number(cell("sales", "Handshakes avoided"))
	if calls == 0 || avoided == 0 {
		p.t.Errorf("%v calls/s and %v handshakes avoided", calls, avoided)
	}
	p.until("the numbers to move", p.over(cell("sales", "Handshakes avoided"), avoided))
	p.until("a chart", card("Calls/s")+`.querySelector(".line").getAttribute("d").includes("L")`)
	for _, label := range []string{"p50", "p99", "In flight", "Reuse"} {
		if p.number(cell("sales", label)) == 0 {
			p.t.Errorf("%s is shown as %q", label, p.text(cell("sales", label)))
		}
	}
	p.screenshot("load")
}

// pauseSales has callers wait, and go on where they were.
func (p *tab) pauseSales(loads map[string]*load) {
	p.t.Helper()
	p.tabTo("Pause of sales", labelled+`"Pause sales"`)
	p.press(kb.Enter)
	p.until("sales to be paused", shows(row("sales"), "paused")+" && "+p.over(cell("sales", "Waiting"), 13))
	p.until("its callers to be told of", shows(row("sales"), "14 callers wait for the pool to go on"))
	p.until("the news to be read out", shows(said, "sales"))
	before := loads["sales"].done.Load()
	p.until("them to wait on", `/^([2-9]|\d\d)(\.\d)? s$/.test(`+cell("sales", "Waiting")+`.querySelector(".more").innerText)`)
	if more := loads["sales"].done.Load() - before; more > 0 {
		p.t.Errorf("%d calls went through while paused", more)
	}
	p.screenshot("paused")
	if !p.is(`document.activeElement.getAttribute("aria-label") === "Resume sales"`) {
		p.t.Error("the focus has left the button that was pressed")
	}
	p.press(kb.Enter)
	p.until("sales to go on", "!"+shows(row("sales"), "paused")+" && "+p.over(cell("sales", "Calls/s"), 0))
	eventually(p.t, "calls to go on", func() bool { return loads["sales"].done.Load() > before+100 })
	for _, l := range loads {
		l.unharmed(p.t)
	}
}

// resetAndDrainSearch replaces connections, and fails no call.
func (p *tab) resetAndDrainSearch(loads map[string]*load) {
	p.t.Helper()
	p.tabTo("Reset of search", labelled+`"Reset search"`)
	p.press(kb.Enter)
	p.until("search to be reset", shows(said, "search: reset; 2 connections close after their last call"))
	p.until("new connections", "!"+shows(row("search"), "#1 ")+" && "+p.over(cell("search", "In flight"), 0))
	p.tabTo("Drain of search", labelled+`"Drain… search"`)
	p.press(kb.Enter)
	p.until("to be asked", whole(sure)+" && "+shows(sure, "Drain search?"))
	p.tabTo("the answer", labelled+`"Drain"`)
	p.press(kb.Enter)
	p.until("search to be drained", shows(said, "search: drained; "))
	for _, l := range loads {
		l.unharmed(p.t)
	}
}

// readStory opens the story of a connection, and closes it.
func (p *tab) readStory() {
	p.t.Helper()
	p.tabTo("a connection of sales", `it.matches(".box") && it.parentElement.getAttribute("aria-label") === "Connections of sales"`)
	if !p.is(`document.activeElement.textContent.startsWith("#1, ready, ")`) {
		p.t.Error("Tab does not lead to the first of the connections")
	}
	p.press(kb.ArrowRight)
	if !p.is(`document.activeElement.textContent.startsWith("#2, ")`) {
		p.t.Error("the arrow does not lead to the second")
	}
	p.press(kb.Enter)
	p.until("its story", whole(story)+" && "+shows(story, "sales-2")+" && "+shows(`document.getElementById("events")`, "opened"))
	p.screenshot("story")
	p.press(kb.Escape)
	p.until("the story to be closed", "!"+whole(story))
	if !p.is(`document.activeElement.textContent.startsWith("#2, ")`) {
		p.t.Error("the focus does not come back from the story")
	}
}

// pauseWhatTakesLong pauses a pool whose calls do not end in time, and has it go on.
func (p *tab) pauseWhatTakesLong() {
	p.t.Helper()
	p.tabTo("Pause of sales", labelled+`"Pause sales"`)
	p.press(kb.Enter)
	p.until("to be told that it takes longer", shows(said, "those in flight still run")+" && "+shows(row("sales"), "paused"))
	p.press(kb.Enter)
	p.until("sales to go on", "!"+shows(row("sales"), "paused"))
}

// killConnection kills the connection that has calls, once it was asked twice.
func (p *tab) killConnection(busy *load) {
	p.t.Helper()
	p.tabTo("the connection with calls", `it.matches(".box") && it.parentElement.getAttribute("aria-label") === "Connections of sales"`)
	p.press(kb.Home)
	for range 6 {
		if !p.is(`document.activeElement.textContent.includes(", ready, 0/")`) {
			break
		}
		p.press(kb.ArrowRight)
	}
	victim := value[string](p, `document.activeElement.querySelector(".id").textContent.replace("#", "sales-")`)
	p.press(kb.Enter)
	p.until("its story", shows(story, "opened")+" && "+whole(`document.getElementById("kill")`))
	p.tabTo("Kill", labelled+`"Kill…"`)
	p.press(kb.Enter)
	p.until("to be asked", whole(sure)+" && "+shows(sure, "Kill "+victim+"?"))
	if !p.is(`document.activeElement.innerText === "Cancel"`) {
		p.t.Error("the focus is not on Cancel")
	}
	p.screenshot("sure")
	p.press(kb.Escape)
	p.until("the question to be gone, and the story not", "!"+whole(sure)+" && "+whole(story))
	if n := busy.failed.Load(); n > 0 {
		p.t.Errorf("%d calls failed although nothing was killed", n)
	}
	p.press(kb.Enter)
	p.until("to be asked again", whole(sure))
	p.tabTo("the answer", labelled+`"Kill"`)
	p.press(kb.Enter)
	p.until("the end of the story", shows(`document.getElementById("events")`, "closed")+" && "+shows(story, "killed"))
	eventually(p.t, "calls to be cut off", func() bool { return busy.failed.Load() > 0 })
	p.screenshot("killed")
	p.press(kb.Escape)
	p.until("the connection to be gone", "!"+whole(story)+" && !"+shows(row("sales"), strings.Replace(victim, "sales-", "#", 1)+" "))
}

// over is whether the number that an element begins with is over another.
func (p *tab) over(element string, n float64) string {
	return fmt.Sprintf(`parseFloat(%s?.innerText.replaceAll(",", "")) > %v`, element, n)
}

// TestEverybodyCanUseThePage has axe-core look for what keeps people from using
// the page: serious faults, and critical ones.
func TestEverybodyCanUseThePage(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("testdata", "node", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Skip("axe-core is not here: npm install in testdata/node")
	}
	judge := func(p *tab, what string) {
		p.t.Helper()
		run(p, chromedp.Evaluate[any](string(script)+"; 0"))
		verdict := run(p, chromedp.Evaluate[struct {
			Passed int
			Faults []string
		}](`axe.run().then((r) => ({
			passed: r.passes.length,
			faults: r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) =>
				v.id + ": " + v.help + ": " + v.nodes.length + " of " + v.nodes[0].html.slice(0, 200) + " " + v.nodes[0].any.map((a) => a.message).join("; ")),
		}))`, chromedp.EvalAwaitPromise))
		for _, fault := range verdict.Faults {
			p.t.Errorf("%s: %s", what, fault)
		}
		if verdict.Passed < 10 {
			p.t.Errorf("%s: axe-core has looked at %d things only", what, verdict.Passed)
		}
	}
	g, _ := world(t)
	closed := locked(t)
	click := func(p *tab, element string) { run(p, chromedp.Evaluate[any](element+".click()")) }
	looks := map[string]look{"light": {}, "dark": {dark: true}, "narrow": {width: 390, height: 844}, "narrow and dark": {dark: true, width: 390, height: 844}}
	for name, at := range looks {
		t.Run(name, func(t *testing.T) {
			p := open(t, g.url, at)
			p.until("the numbers", live+" && "+p.over(cell("sales", "Calls/s"), 0))
			judge(p, "the pools")
			click(p, row("sales")+`.querySelector(".do button")`)
			p.until("callers to wait", shows(row("sales"), "callers wait"))
			judge(p, "a paused pool")
			run(p, chromedp.Evaluate[any](row("sales")+`.scrollIntoView({block: "center"})`))
			p.screenshot("paused")
			click(p, row("sales")+`.querySelector(".do button")`)
			p.until("it to go on", "!"+shows(row("sales"), "paused"))
			click(p, row("sales")+`.querySelector(".box")`)
			p.until("the story", whole(story)+" && "+shows(story, "opened"))
			judge(p, "a story")
			p.screenshot("story")
			click(p, `document.getElementById("kill")`)
			p.until("to be asked", whole(sure))
			judge(p, "a question")
			p.clean()

			p = open(t, closed, at)
			p.until("to be asked for a token", whole(login))
			judge(p, "the login")
			p.screenshot("login")
		})
	}
	t.Run("lost", func(t *testing.T) {
		p := open(t, g.url, look{})
		p.until("the numbers", live+" && "+p.over(cell("sales", "Calls/s"), 0))
		g.stop()
		p.until("to be told", whole(lost))
		for _, at := range looks {
			p.show(at)
			judge(p, "the loss")
		}
	})
}

// TestNumberOfPools looks at none and at many.
func TestNumberOfPools(t *testing.T) {
	t.Run("none", func(t *testing.T) {
		s := httptest.NewServer(admin.New(admin.Options{Local: true}))
		t.Cleanup(s.Close)
		p := open(t, s.URL, look{})
		p.until("to be told", whole(`document.getElementById("empty")`)+" && "+shows("document.body", "There are no pools"))
		p.screenshot("empty")
		p.clean()
	})
	t.Run("many", func(t *testing.T) {
		const servers = 200
		long := strings.Repeat("long-names-", 5) + "too_short" // the longest that there is
		backends := append(many(servers-2),
			backend{name: long, server: &mcptest.Server{Name: "long"}},
			backend{name: "busy", server: &mcptest.Server{Name: "busy"}, pool: map[string]any{"sharing": "shared", "max_connections": 60, "calls_per_connection": 1}})
		g := serve(t, backends)
		g.call(t, "busy", 50, 100*time.Millisecond)
		g.call(t, long, 2, 100*time.Millisecond)
		p := open(t, g.url, look{})
		p.until("all of them", fmt.Sprintf(`document.querySelectorAll("#table tbody").length === %d && `, servers)+p.over(cell("busy", "Calls/s"), 0))
		p.until("more connections than are shown", `parseInt(`+row("busy")+`.querySelector(".plain").innerText) > 0`)
		p.screenshot("many")
		p.show(look{width: 390, height: 844})
		if over := value[int](p, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
			t.Errorf("the page is %d px wider than a narrow screen", over)
		}
		p.show(look{})
		shown := `[...document.querySelectorAll("#table tbody")].filter((b) => b.checkVisibility()).length`
		p.tabTo("the field that finds", `it.id === "find"`)
		p.press("BUSY")
		p.until("one to be found", shown+" === 1 && "+whole(row("busy")))
		p.press(kb.Escape)
		p.until("all again", fmt.Sprintf("%s === %d", shown, servers))
		// Between two events the page is drawn in less than the second that it has.
		took := value[float64](p, `(() => { const began = performance.now(); document.dispatchEvent(new Event("visibilitychange")); document.body.offsetHeight; return performance.now() - began; })()`)
		t.Logf("drawn in %.0f ms", took)
		if took > 500 {
			t.Errorf("drawing %d pools takes %.0f ms", servers, took)
		}
		p.clean()
	})
}

// TestServerIsAway looks at a pool whose server does not come back.
func TestServerIsAway(t *testing.T) {
	g := serve(t, []backend{{name: "gone", url: "http://127.0.0.1:9/mcp", pool: map[string]any{"connection_timeout": "30s"}}, {name: "here", server: &mcptest.Server{}}})
	g.call(t, "gone", 3, time.Millisecond)
	g.call(t, "here", 3, 50*time.Millisecond)
	p := open(t, g.url, look{})
	p.until("it to be away", shows(row("gone"), "server away")+" && "+shows(`document.getElementById("kinds")`, "Away 1")+" && document.title.startsWith('1 away')")
	p.screenshot("away")
	p.clean()
}

// TestConnectionLost stops the gateway, and starts another one.
func TestConnectionLost(t *testing.T) {
	g := serve(t, []backend{{name: "sales", server: &mcptest.Server{}}})
	g.call(t, "sales", 2, 50*time.Millisecond)
	p := open(t, g.url, look{})
	p.until("the numbers", live+" && "+p.over(cell("sales", "Calls/s"), 0))
	p.clean()
	g.stop()
	p.until("to be told", whole(lost)+" && "+shows(lost, "Connection lost.")+` && document.title === "lost · mcpool"`)
	if !p.is(whole(row("sales"))) {
		t.Error("what was known is shown no more")
	}
	p.screenshot("lost")
	run(p, chromedp.Evaluate[any](row("sales")+`.querySelector(".do button").click()`))
	p.until("the verb to be seen to fail", shows(said, "the gateway does not answer"))
	serve(t, []backend{{name: "sales", server: &mcptest.Server{}}}, "--listen", strings.TrimPrefix(g.url, "http://"))
	p.until("the page to come back by itself", live+" && !"+whole(lost))
	p.clean("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
}

const rightToken = "correct-horse-battery-staple"

// noAdmin is a token that is known, and may not use the API.
const noAdmin = "old-horse"

// locked returns the address of a page whose API wants a token.
func locked(t *testing.T) string {
	t.Helper()
	token, err := admin.ParseToken([]byte(rightToken))
	if err != nil {
		t.Fatal(err)
	}
	conf := mcpool.DefaultConfig()
	pool, err := mcpool.New(mcpool.Server{Name: "sales", URL: "http://127.0.0.1:9/mcp"}, &conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	authorize := func(r *http.Request) (string, error) {
		if r.Header.Get("Authorization") == "Bearer "+noAdmin {
			return "", fmt.Errorf("%s is no admin%w", noAdmin, &auth.Error{Status: http.StatusForbidden})
		}
		return "", errors.New("nobody that is known")
	}
	s := httptest.NewServer(admin.New(admin.Options{Token: func() *admin.Token { return token }, Authorize: authorize, Pools: func() []*mcpool.Pool { return []*mcpool.Pool{pool} }}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestToken logs in where the API wants a token.
func TestToken(t *testing.T) {
	p := open(t, locked(t), look{})
	p.until("to be asked", whole(login))
	if p.is(whole(`document.getElementById("shown")`)) {
		t.Error("there is something to see without a token")
	}
	p.screenshot("asked")
	enter := func(text string) {
		p.tabTo("the field", `it.id === "token"`)
		p.press(text, kb.Enter)
	}
	enter("wrong-horse")
	p.until("to be turned away", shows(login, "The token was not accepted"))
	enter(noAdmin)
	p.until("to be told that it is no admin's", shows(login, "not accepted: "+noAdmin+" is no admin"))
	enter("two words")
	p.until("to be told what a token is", shows(login, "no spaces"))
	run(p, chromedp.Evaluate[any](`document.getElementById("token").select()`))
	enter(rightToken)
	p.until("to be let in", live+" && !"+whole(login)+" && "+whole(row("sales")))
	p.tabTo("Pause", labelled+`"Pause sales"`)
	p.press(kb.Enter)
	p.until("the pool to be paused", shows(row("sales"), "paused"))
	run(p, chromedp.Reload())
	p.until("to be known still", live+" && "+shows(row("sales"), "paused"))
	if kept := value[string](p, `document.cookie + JSON.stringify(localStorage)`); kept != "{}" {
		t.Errorf("the browser keeps %s", kept)
	}
	run(p, chromedp.Evaluate[any](`document.getElementById("forget").click()`))
	p.until("to be asked again", whole(login)+" && sessionStorage.length === 0")
	p.clean("401 (Unauthorized)", "403 (Forbidden)")
}

// TestManyTabs has the page open in more tabs than a browser has connections to
// one host over HTTP/1.1: those that are not looked at keep none from the others.
func TestManyTabs(t *testing.T) {
	g := serve(t, many(1))
	streams := func() int {
		response, err := http.Get(g.url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), `mcpool_http_requests_in_flight{handler="admin"} `)
		n, err := strconv.Atoi(strings.SplitN(rest, "\n", 2)[0])
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return n - 1 // this very one
	}
	first := open(t, g.url, look{})
	command(first, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{}) // it would be seen for ever
	first.until("the page", live)
	tabs := []*tab{first}
	for range 8 {
		before := tabs[len(tabs)-1]
		tabs = append(tabs, before.beside(g.url))
		tabs[len(tabs)-1].until("the page of a new tab", live)
		before.until("the page behind it to rest", resting)
	}
	eventually(t, "one stream to be left", func() bool { return streams() == 1 })
	command(first, page.BringToFront, cdp.Empty{})
	first.until("to go on when it is looked at again", live)
	if first.is(whole(lost)) {
		t.Error("the first tab says that the connection was lost")
	}
	eventually(t, "one stream to be left", func() bool { return streams() == 1 })
	for _, p := range tabs {
		p.clean()
	}
}

// TestNamesAreText has a server that calls itself and its faults what would be
// part of a page elsewhere.
func TestNamesAreText(t *testing.T) {
	const evil = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
	g := serve(t, []backend{{name: "evil", server: &mcptest.Server{Name: evil}}})
	g.call(t, "evil", 2, 50*time.Millisecond)
	p := open(t, g.url, look{})
	p.until("a connection", whole(row("evil")+`.querySelector(".box")`))
	run(p, chromedp.Evaluate[any](row("evil")+`.querySelector(".box").click()`))
	p.until("its name, as it is written", shows(story, evil))
	if p.is(`document.querySelector("#story img, #story script") || document.title.includes("owned")`) {
		t.Error("the name of a server is part of the page")
	}
	p.screenshot("story")
	p.clean()
}
