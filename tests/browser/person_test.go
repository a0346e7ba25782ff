package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// The size of the window, like a laptop's.
const width, height = 1280, 1000

// patience bounds every wait for something to be seen: that of a machine that builds something else beside.
const patience = 90 * time.Second

// person sees and clicks what is visible in the browser, by its text, and nothing else.
type person struct {
	*testing.T
	tab context.Context
	// pictures is where pictures go; empty: none are taken.
	pictures string
	shots    int
}

// sit puts a person before the browser.
func (w *env) sit(t *testing.T) *person {
	t.Helper()
	if w == nil {
		t.Skip(skipped)
	}
	pictures := os.Getenv("REKEY_ARTIFACTS")
	if pictures != "" {
		pictures = filepath.Join(pictures, "browser")
		if err := os.MkdirAll(pictures, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	return &person{T: t, tab: w.browser, pictures: pictures}
}

// visible is a function for the page: elements of a kind that can be seen and whose name, as a screen reader would
// say it, contains a text; the shortest names come first. While a dialog is open there is nothing else to click on.
const visible = `(kind, text) => {
	const selector = {
		link: 'a[href], [role=tab]', button: 'button', choice: 'button[aria-haspopup]', item: '[role=menuitem], [role=option]', field: '[role=textbox], input',
	}[kind];
	const name = (e) => [e.getAttribute('aria-label'), e.innerText, e.placeholder, e.value, 
		...[...e.querySelectorAll('input')].map((i) => i.value)]
		.filter(Boolean).join(' ').replace(/\s+/g, ' ').trim();
	const seen = (e) => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 && getComputedStyle(e).visibility !== 'hidden'; };
	return [...(document.querySelector('dialog[open]') ?? document).querySelectorAll(selector)]
		.filter((e) => seen(e) && name(e).includes(text))
		.sort((a, b) => name(a).length - name(b).length);
}`

type point struct{ X, Y float64 }

// find scrolls to the first thing of a kind with a text, and says where it is; nil if there is none.
func (p *person) find(kind, text string) (*point, error) {
	return eval[*point](p, fmt.Sprintf(`(() => {
		const e = (%s)(%q, %s)[0];
		if (!e || e.disabled) return null;
		e.scrollIntoView({block: 'center', behavior: 'instant'});
		const r = e.getBoundingClientRect();
		const at = {X: r.x + r.width / 2, Y: r.y + r.height / 2};
		const top = document.elementFromPoint(at.X, at.Y);
		return top && (e.contains(top) || top.contains(e)) ? at : null;
	})()`, visible, kind, quote(text)))
}

func eval[T any](p *person, script string) (T, error) {
	ctx, cancel := context.WithTimeout(p.tab, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](script))
}

func quote(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// until asks again and again until the answer is true.
func (p *person) until(what string, f func() (bool, error)) {
	p.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var ok bool
		if ok, err = f(); ok {
			return
		}
	}
	p.picture("lost")
	p.Fatalf("%s: waited in vain (%v). The page says:\n%s", what, err, p.text())
}

// click clicks on what has this text.
func (p *person) click(kind, text string) {
	p.Helper()
	var at, before *point
	p.until(fmt.Sprintf("click on the %s %q", kind, text), func() (rests bool, err error) {
		// Not while it moves: the click would go beside it.
		before = at
		at, err = p.find(kind, text)
		return at != nil && before != nil && *at == *before, err
	})
	if err := chromedp.Do(p.tab, chromedp.MouseClickXY(at.X, at.Y)); err != nil {
		p.Fatal(err)
	}
}

// paste puts a text in the place of what is in a field (a dialog that is opened again still has its last input), and
// looks whether it is there.
func (p *person) paste(field, text string) {
	p.Helper()
	p.until("paste into "+field, func() (bool, error) {
		p.click("field", field)
		if err := chromedp.Do(p.tab, chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
			return err
		})); err != nil {
			return false, err
		}
		return eval[bool](p, fmt.Sprintf(`((%s)('field', %s)[0]?.innerText ?? '').replace(/\s/g, '') === %s.replace(/\s/g, '')`, visible, quote(field), quote(text)))
	})
}

// page is a script that gives all that can be read on the page; the UI renders Markdown in frames.
const page = `[document, ...[...document.querySelectorAll('iframe')].map((f) => f.contentDocument)]
	.map((d) => d?.body?.innerText ?? '').join(' ').replace(/\s+/g, ' ')`

// text is what can be read on the page.
func (p *person) text() string {
	text, err := eval[string](p, page)
	if err != nil {
		return err.Error()
	}
	return text
}

// reads waits until all of these texts can be read on the page.
func (p *person) reads(texts ...string) {
	p.Helper()
	for _, text := range texts {
		p.until(fmt.Sprintf("read %q", text), func() (bool, error) {
			return eval[bool](p, page+".includes("+quote(text)+")")
		})
	}
}

// details opens what the rotation says of itself, and waits until it says all of this. The page asks the rotation when
// it is opened. It can be told to ask again by pressing R, but each time leaves a request open that waits for news: a
// browser has six of them, and then the next message hangs. So the person loads the page again.
func (p *person) details(texts ...string) {
	p.Helper()
	p.click("link", "User Metadata")
	for _, text := range texts {
		var loaded time.Time
		p.until(fmt.Sprintf("read %q", text), func() (bool, error) {
			now, err := eval[string](p, page)
			if err != nil || strings.Contains(now, text) {
				return err == nil, err
			}
			switch {
			case !strings.Contains(now, "· rotation "):
				// On a busy machine the page takes long; to load it again then would begin anew for ever.
			case loaded.IsZero():
				loaded = time.Now()
			case time.Since(loaded) > 2*time.Second:
				p.again()
				loaded = time.Time{}
			}
			return false, nil
		})
	}
}

// again loads the page again.
func (p *person) again() {
	p.Helper()
	if err := chromedp.Do(p.tab, chromedp.Reload()); err != nil {
		p.Fatal(err)
	}
}

// code returns the text in code style that follows a text of the details, which is there to be copied.
func (p *person) code(after string) string {
	p.Helper()
	text, err := eval[string](p, fmt.Sprintf(`[...document.querySelectorAll('iframe')]
		.flatMap((f) => [...f.contentDocument.querySelectorAll('li')]).filter((e) => e.innerText.includes(%s))
		.flatMap((e) => [...e.querySelectorAll('code')]).map((e) => e.innerText).find((t) => t.startsWith('{')) ?? ''`, quote(after)))
	if err != nil || text == "" {
		p.Fatalf("nothing to copy after %q: %v\n%s", after, err, p.text())
	}
	return text
}

// link returns the address behind a link in the details.
func (p *person) link(name string) string {
	p.Helper()
	text, err := eval[string](p, fmt.Sprintf(`[...document.querySelectorAll('iframe')]
		.flatMap((f) => [...f.contentDocument.querySelectorAll('a')]).find((e) => e.innerText.includes(%s))?.href ?? ''`, quote(name)))
	if err != nil {
		p.Fatal(err)
	}
	return text
}

// fill opens one of the two dialogs, chooses a message by its name and gives it its input.
func (p *person) fill(dialog, name, data string) {
	p.Helper()
	p.click("button", "More Actions")
	p.click("item", dialog)
	p.until("choose "+name, func() (bool, error) {
		if at, err := p.find("choice", name); at != nil || err != nil {
			return at != nil, err
		}
		if at, err := p.find("item", name+" "); at == nil || err != nil {
			p.click("choice", "") // it has no name of its own
		}
		p.click("item", name+" ")
		return false, nil
	})
	p.paste("Data", data)
}

// The dialogs, as the menu names them.
const (
	sendUpdate = "Send an Update"
	sendSignal = "Send a Signal"
)

// submit presses Submit until the dialog has closed or shows an answer. The editor sets its text anew when it is left,
// which moves the button from under the mouse: then the first press does nothing, and a person presses again.
func (p *person) submit(answer string) {
	p.Helper()
	done := page + ".includes(" + quote(answer) + ")"
	if answer == "" {
		done = `!document.querySelector('dialog[open]')`
	}
	var pressed time.Time
	p.until("see the answer to a message: "+answer, func() (bool, error) {
		ok, err := eval[bool](p, done)
		if ok || err != nil || time.Since(pressed) < 700*time.Millisecond {
			return ok, err
		}
		if at, err := p.find("button", "Submit"); at == nil || err != nil {
			return false, err // it is being sent
		}
		p.click("button", "Submit")
		pressed = time.Now()
		return false, nil
	})
}

// send sends a message, which the UI takes: its dialog closes.
func (p *person) send(dialog, name, data string) {
	p.Helper()
	p.fill(dialog, name, data)
	p.submit("")
}

// goTo opens a page of the UI.
func (p *person) goTo(path string, query url.Values) {
	p.Helper()
	address := shared.UIURL() + "/namespaces/" + shared.Namespace + "/" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	if err := chromedp.Do(p.tab, chromedp.Navigate(address)); err != nil {
		p.Fatal(err)
	}
}

// picture keeps what the person sees now.
func (p *person) picture(name string) {
	p.Helper()
	if p.pictures == "" {
		return // it takes a second, on a busy machine more
	}
	b, err := chromedp.Run(p.tab, chromedp.CaptureScreenshot())
	if err != nil {
		p.Fatal(err)
	}
	p.shots++
	file := filepath.Join(p.pictures, fmt.Sprintf("%s-%02d-%s.png", strings.ToLower(p.Name()), p.shots, name))
	if err := os.WriteFile(file, b, 0o600); err != nil {
		p.Fatal(err)
	}
}
