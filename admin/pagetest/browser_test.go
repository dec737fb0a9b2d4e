package pagetest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A tab shows the page in a browser of its own. It notes what the browser has to
// complain about.
type tab struct {
	t    *testing.T
	ctx  context.Context
	host string

	mu     sync.Mutex // guards faults
	faults []string
}

// look is how the page is looked at. The zero look is a wide light screen.
type look struct {
	dark          bool
	width, height int64
}

// open opens the page of a gateway.
func open(t *testing.T, address string, at look) *tab {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not here")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(chromium),
		chromedp.NoSandbox, // in which it cannot run as root
		chromedp.Flag("lang", "en-US"),
	)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	p := newTab(ctx, t, address)
	command(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // as a window in front has it
	p.show(at)
	run(p, chromedp.Navigate(address))
	return p
}

// beside opens the page in another tab of the same window, where it is in front.
func (p *tab) beside(address string) *tab {
	p.t.Helper()
	other := newTab(p.ctx, p.t, address, chromedp.WithNewWindow(false))
	late, cancel := context.WithTimeout(other.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.Run(late, chromedp.Navigate(address)); err != nil {
		p.t.Fatalf("another tab: %v", err)
	}
	return other
}

// newTab makes a tab for the page of a gateway, in the browser of ctx.
func newTab(ctx context.Context, t *testing.T, address string, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, quit := chromedp.NewContext(ctx, options...)
	t.Cleanup(quit)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &tab{t: t, ctx: ctx, host: u.Host}
	if err := chromedp.Listen(ctx, p.note); err != nil {
		t.Fatal(err)
	}
	command(p, network.Enable, network.EnableParams{})
	command(p, log.Enable, cdp.Empty{})
	command(p, runtime.Enable, cdp.Empty{})
	command(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `document.addEventListener("securitypolicyviolation", (v) => console.error("policy violated: " + v.violatedDirective + " by " + v.blockedURI))`,
	})
	return p
}

// run takes a step in a tab.
func run[T any](p *tab, step chromedp.Action[T]) T {
	p.t.Helper()
	result, err := chromedp.Run(p.ctx, step)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

// command gives a command of the browser's protocol to a tab.
func command[P, R any](p *tab, what cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, what, params)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

// value evaluates an expression in a tab.
func value[T any](p *tab, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression))
}

// show changes how the page is looked at.
func (p *tab) show(at look) {
	p.t.Helper()
	scheme := "light"
	if at.dark {
		scheme = "dark"
	}
	if at.width == 0 {
		at.width, at.height = 1360, 860
	}
	command(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	command(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: at.width, Height: at.height, DeviceScaleFactor: 1, Mobile: at.width < 500,
	})
}

// note takes down errors on the console, of scripts and of the browser itself, and
// requests to others.
func (p *tab) note(event any) {
	fault := ""
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			fault = "console:"
			for _, arg := range e.Args {
				fault += " " + string(arg.Value)
			}
		}
	case *runtime.EventExceptionThrown:
		fault = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			fault += " " + e.ExceptionDetails.Exception.Description
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			fault = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Host != p.host && u.Scheme != "data" {
			fault = "request to " + e.Request.URL
		}
	}
	if fault != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = append(p.faults, fault)
	}
}

// clean fails the test if the browser has complained, of other things than those
// that are expected.
func (p *tab) clean(expected ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fault := range p.faults {
		if !slices.ContainsFunc(expected, func(s string) bool { return strings.Contains(fault, s) }) {
			p.t.Errorf("the browser complains: %s", fault)
		}
	}
}

// is evaluates a condition, which does not hold of what is not there.
func (p *tab) is(condition string) bool {
	p.t.Helper()
	return value[bool](p, "(() => { try { return Boolean("+condition+") } catch (err) { if (err instanceof TypeError) return false; throw err } })()")
}

// until waits for a condition.
func (p *tab) until(what, condition string) {
	p.t.Helper()
	came := false
	defer func() {
		if !came {
			p.screenshot("failed")
		}
	}()
	eventually(p.t, what, func() bool { return p.is(condition) })
	came = true
}

// text returns what an expression's element shows.
func (p *tab) text(element string) string {
	p.t.Helper()
	return strings.Join(strings.Fields(value[string](p, element+".innerText")), " ")
}

// number returns the number that an element begins with.
func (p *tab) number(element string) float64 {
	p.t.Helper()
	return value[float64](p, `parseFloat(`+element+`.innerText.replaceAll(",", "")) || 0`)
}

// press presses keys, one after the other.
func (p *tab) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		run(p, chromedp.KeyEvent(key))
	}
}

// tabTo presses Tab until a condition holds of the focused element, which is "it".
func (p *tab) tabTo(what, condition string) {
	p.t.Helper()
	for range 150 {
		if p.is("((it) => " + condition + ")(document.activeElement)") {
			if !p.is(`getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
				p.t.Errorf("one does not see that the focus is on %s", what)
			}
			return
		}
		p.press(kb.Tab)
	}
	p.screenshot("failed")
	p.t.Fatalf("Tab does not lead to %s", what)
}

// screenshot writes what is seen.
func (p *tab) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("MCPOOL_SCREENSHOTS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "mcpool-screenshots")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "-")+"-"+name+".png")
	if err := os.WriteFile(file, run(p, chromedp.CaptureScreenshot()), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.t.Logf("screenshot: %s", file)
}
