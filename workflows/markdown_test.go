package workflows_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	markdown "github.com/gomarkdown/markdown"
	"github.com/gomarkdown/markdown/ast"
	"github.com/gomarkdown/markdown/html"
	"github.com/gomarkdown/markdown/parser"
	"github.com/yuin/goldmark"
	goldast "github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/workflows"
)

// page is what a renderer makes of a page.
type page struct {
	// shape is the structure: one word for each element, but for text and for code within a line.
	shape string
	// text is all that is read, without spaces.
	text string
	// links are the addresses of links and images.
	links []string
}

// temporalUI renders as the Temporal UI does (its server/route/ui.go).
func temporalUI(source string) page {
	var p page
	var b strings.Builder
	ast.WalkFunc(parser.NewWithExtensions(parser.CommonExtensions|parser.AutoHeadingIDs).Parse([]byte(source)), func(n ast.Node, entering bool) ast.WalkStatus {
		if !entering {
			return ast.GoToNext
		}
		switch n := n.(type) {
		case *ast.Text:
			b.WriteString(entities.Replace(string(n.Literal)))
			return ast.GoToNext
		case *ast.Code:
			b.Write(n.Literal)
			return ast.GoToNext
		case *ast.HTMLSpan:
			if text := string(n.Literal); entities.Replace(text) != text {
				b.WriteString(entities.Replace(text))
				return ast.GoToNext
			}
		case *ast.Link:
			p.links = append(p.links, string(n.Destination))
		case *ast.Image:
			p.links = append(p.links, string(n.Destination))
		}
		p.shape += fmt.Sprintf("%T ", n)
		return ast.GoToNext
	})
	p.text = squeeze(b.String())
	return p
}

var entities = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")

// github renders CommonMark with GitHub's extensions.
func github(source string) page {
	var p page
	var b strings.Builder
	in := []byte(source)
	doc := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote, extension.DefinitionList)).Parser().Parse(text.NewReader(in))
	_ = goldast.Walk(doc, func(n goldast.Node, entering bool) (goldast.WalkStatus, error) {
		if !entering {
			return goldast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *goldast.Text:
			if n.Parent().Kind() == goldast.KindCodeSpan {
				b.Write(n.Value(in))
			} else {
				b.WriteString(entities.Replace(backslash.ReplaceAllString(string(n.Value(in)), "$1"))) // as it was written, with its escapes
			}
			return goldast.WalkContinue, nil
		case *goldast.String:
			b.Write(n.Value)
			return goldast.WalkContinue, nil
		case *goldast.CodeSpan:
			return goldast.WalkContinue, nil
		case *goldast.Link:
			p.links = append(p.links, string(n.Destination))
		case *goldast.AutoLink:
			p.links = append(p.links, string(n.URL(in)))
			b.Write(n.Label(in))
		case *goldast.Image:
			p.links = append(p.links, string(n.Destination))
		}
		p.shape += n.Kind().String() + " "
		return goldast.WalkContinue, nil
	})
	p.text = squeeze(b.String())
	return p
}

var backslash = regexp.MustCompile(`\\([\\*_\[\]~|$#+:.)-])`)

// squeeze is a text without what a page shows otherwise: spaces, what hides, the few characters that code cannot have.
func squeeze(s string) string {
	s = strings.NewReplacer("`", "'", "‹", "<", "›", ">").Replace(strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !rotation.OneLine(string(r)) {
			return -1
		}
		return r
	}, s)
}

var renderers = map[string]func(string) page{"the Temporal UI": temporalUI, "GitHub": github}

// links are all addresses that any renderer leads to.
func links(source string) (all []string) {
	for _, render := range renderers {
		all = append(all, render(source).links...)
	}
	return all
}

// pages are all pages that can be made without a rotation, with one text in every place that others fill.
func pages(foreign string) map[string]string {
	key := rotation.Key{Name: foreign, Provider: foreign, Account: foreign, Stores: []rotation.Location{{Store: foreign, Path: foreign}}}
	m := rotation.DecisionMessage{By: foreign, Why: foreign, Leaked: []string{foreign}}
	return map[string]string{
		"a rotation":               workflows.StaticDetails(workflows.Input{Key: key, Reason: rotation.Reason(foreign), By: foreign, Why: foreign}),
		"a rotation's summary":     "A line: " + workflows.StaticSummary(workflows.Input{Key: key, Reason: rotation.Manual}),
		"a trigger":                workflows.TriggerDetails(workflows.TriggerInput{Source: foreign, Keys: []string{foreign}, Fingerprints: []string{foreign}, Why: foreign}),
		"an emergency":             workflows.EmergencyDetails(workflows.EmergencyInput{ID: foreign, Keys: []string{foreign}, Message: m}),
		"a reason behind an input": workflows.TriggerDetails(workflows.TriggerInput{Source: "ci", Why: `{"by": "o"}` + foreign + `{"by": "o"}`}),
	}
}

// harmless checks that a text is nothing but text, wherever it comes to stand.
func harmless(t *testing.T, foreign string) {
	t.Helper()
	// A name that rekey.yaml can have is bold, any other is code.
	bold, plain := pages("x"), pages("x!")
	for where, source := range pages(foreign) {
		for who, render := range renderers {
			got, want := render(source), render(plain[where])
			if len(got.links) > 0 || got.shape != want.shape && got.shape != render(bold[where]).shape {
				t.Errorf("%q on the page of %s, as %s shows it: links %q\n got %s\nwant %s\n%s", foreign, where, who, got.links, got.shape, want.shape, source)
			}
		}
	}
}

// attacks are texts that mean something to one renderer or another.
var attacks = map[string]string{
	"a link":                                 "[log in](https://evil.example)",
	"a link whose escapes are escaped":       `\[log in\](https://evil.example)`,
	"a link whose escapes are escaped twice": `\\[log in\\](https://evil.example)`,
	"a bare address":                         "see https://evil.example/login now",
	"an address in brackets":                 "(https://evil.example)",
	"an address behind a full stop":          "Done.https://evil.example",
	"an address in capitals":                 "HTTPS://EVIL.EXAMPLE",
	"an address with what hides in it":       "https:\u200b//evil.example http\u202es://evil.example",
	"an address with an entity in it":        "https&#58;//evil.example https&colon;//evil.example",
	"an address with an escape in it":        `https\://evil.example www\.evil.example`,
	"an address around a code":               "https:`//evil.example`",
	"an address that begins with www":        "www.evil.example",
	"an address of another scheme":           "ftp://evil.example file:///etc/passwd",
	"an address of a person":                 "write to admin@evil.example or mailto:admin@evil.example",
	"an address for a chat":                  "xmpp:foo@evil.example/bar",
	"an address between angles":              "<https://evil.example> <admin@evil.example>",
	"a console with something behind it":     "https://console.cloud.google.com/cloudshell/open?git_repo=https://evil.example",
	"a link by reference":                    "[log in][1]\n\n[1]: https://evil.example",
	"an image":                               "![x](https://evil.example/x.png)",
	"an image behind an exclamation":         `!\[x](https://evil.example/x.png)`,
	"a footnote":                             "[^1] ^[x](https://evil.example)\n\n[^1]: x",
	"HTML":                                   `<img src=x onerror=alert(1)> <!-- --> <script>`,
	"a link in HTML":                         `<a href="https://evil.example">https://evil.example</a>`,
	"an entity":                              "&lt;b&gt; &#91;x&#93;(https://evil.example)",
	"emphasis":                               "**bold** *it* _it_ __bold__ ~~gone~~ ***x*** a_b_c _",
	"code":                                   "`x` ``y`` ```z``` `",
	"code next to code":                      `{"a"}{"b"}` + "`" + `{"c"}`,
	"an input with an address in it":         `{"by": "https://evil.example"}`,
	"an input without an end":                `{"by": "https://evil.example`,
	"a heading":                              "# x",
	"a heading by its line below":            "x\n===\ny\n---",
	"a list":                                 "- x\n- y\n* z\n+ a",
	"a numbered list":                        "1. x\n2) y",
	"a quotation":                            "> x",
	"a code block":                           "\n\n    x\n\n```\nx\n```\n~~~\nx\n~~~",
	"a table":                                "a | b\n--- | ---\nc | d",
	"a rule":                                 "\n\n---\n\n* * *\n",
	"a definition":                           "x\n: y",
	"a formula":                              `$x$ $$y$$ \(z\) \\(z\\)`,
	"a task":                                 "[ ] x",
	"lines of every kind":                    "a\rb\vc\fd\u0085e\u2028f\u2029# g",
	"a hard break":                           "a  \nb\\\nc\\",
	"a backslash at the end":                 `x\`,
	"a backslash before a code":              `\{"by": "o"}`,
	"what is no UTF-8":                       "a\xff[b](https://evil.example)\xfe",
	"nothing that is seen":                   "\u200b\u202e",
	"spaces":                                 "   ",
}

func TestTextOfOthersIsNeverMarkupAndNeverALink(t *testing.T) {
	for what, foreign := range attacks {
		t.Run(what, func(t *testing.T) { harmless(t, foreign) })
	}
}

func TestTextOfOthersIsShownWhole(t *testing.T) {
	for what, foreign := range attacks {
		t.Run(what, func(t *testing.T) {
			in := workflows.TriggerInput{Source: "ci", Why: foreign}
			for who, render := range renderers {
				if got := render(workflows.TriggerDetails(in)).text; !strings.Contains(got, squeeze(foreign)) {
					t.Errorf("%s shows %q, not %q", who, got, squeeze(foreign))
				}
			}
		})
	}
}

// Bytes at random seldom make a word of Markdown; its words at random do.
func TestAnyWordsOfMarkdownAreNeverMarkupAndNeverALink(t *testing.T) {
	words := []string{
		"https://", "http:", "//", "www.", "evil.example", "@", "mailto:", "`", "``", `\`, "[", "]", "](", "(", ")", "!", "<", "</a>", "<a href=\"", "\"", ">", "&", "&amp;",
		"&#58;", ";", "#", "_", "__", "*", "**", "~~", "$", "|", `{"`, `"}`, " ", " ", "\n", "\r\n", "a", "B", "1.", "2)", "-", "+", ":", ".", ",", "'", "\u200b", "\u202e", "^", "[^1]", "=", "é",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var foreign strings.Builder
		for range 1 + random.IntN(14) {
			foreign.WriteString(words[random.IntN(len(words))])
		}
		if harmless(t, foreign.String()); t.Failed() {
			return // one is enough to read
		}
	}
}

func FuzzTextOfOthersIsNeverMarkupAndNeverALink(f *testing.F) {
	for _, foreign := range attacks {
		f.Add(foreign)
	}
	f.Fuzz(func(t *testing.T, foreign string) {
		if foreign == "" {
			t.Skip("what nobody said has no line")
		}
		harmless(t, foreign)
	})
}

// What people and senders say stands on the page of a rotation under way, too, beside rekey's own links.
func TestOnAPageWithConsolesNothingElseIsALink(t *testing.T) {
	for _, what := range []string{
		"a link", "a bare address", "an address of a person", "HTML", "a link whose escapes are escaped", "code", "a console with something behind it",
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, manualKey())
			r.in.Why = attacks[what]
			console := r.acts.Providers["openai"].Console(r.in.Key.Account)
			r.after(time.Hour, func() {
				r.signal(rotation.AddNote, rotation.DecisionMessage{By: attacks[what], Why: attacks[what] + " " + console})
				r.signal(rotation.KeyRevoked, rotation.DecisionMessage{By: attacks[what]})
			})
			r.after(2*time.Hour, func() {
				d := r.status().Details
				if !strings.Contains(d, "Handed over") {
					t.Errorf("nobody said anything:\n%s", d)
				}
				for who, render := range renderers {
					got := render(d).links
					for _, l := range got {
						if l != console && !strings.HasPrefix(l, "https://console.cloud.google.com/security/secret-manager/secret/gpt/") {
							t.Errorf("%s makes %q a link", who, l)
						}
					}
					if !slices.Contains(got, console) {
						t.Errorf("%s shows no link to the console:\n%s", who, d)
					}
				}
				r.signal(rotation.RollBack, rotation.DecisionMessage{})
			})
			r.run()
		})
	}
}

// broken is a store that cannot be used, and says where to look.
type broken struct{ store.Store }

const brokenConsole = "https://console.cloud.google.com/security/secret-manager/secret/gpt-pending/versions?project=acme-prod"

func (broken) Check(context.Context, string) error {
	return fault.New(fault.Unavailable, "x", "check https://evil.example/gpt").WithAdvice("Look at %s and at %s.", "www.evil.example", fault.Link(brokenConsole))
}

func TestAConsoleThatAFailureNamesIsALinkAndNothingElseInIt(t *testing.T) {
	r := newRig(t, manualKey())
	for name, s := range r.acts.Stores {
		r.acts.Stores[name] = broken{s}
	}
	r.after(time.Hour, func() {
		d := r.status().Details
		for who, render := range renderers {
			if got := render(d).links; !slices.Equal(got, []string{brokenConsole}) {
				t.Errorf("%s shows the links %q:\n%s", who, got, d)
			}
		}
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.run()
}

// The Temporal UI's renderer has more to it than what its parser finds: what it writes is looked at as well.
func TestTheHTMLOfAPageHasNoElementOfOthers(t *testing.T) {
	element := regexp.MustCompile(`<(/?[a-z0-9]+)`)
	render := func(source string) (elements []string) {
		out := markdown.ToHTML([]byte(source), parser.NewWithExtensions(parser.CommonExtensions|parser.AutoHeadingIDs), html.NewRenderer(html.RendererOptions{Flags: html.CommonFlags | html.HrefTargetBlank}))
		for _, m := range element.FindAllSubmatch(bytes.ReplaceAll(bytes.ReplaceAll(out, []byte("<code>"), nil), []byte("</code>"), nil), -1) {
			elements = append(elements, string(m[1]))
		}
		return elements
	}
	for what, foreign := range attacks {
		for where, source := range pages(foreign) {
			if got, want := render(source), render(pages("x!")[where]); !slices.Equal(got, want) {
				t.Errorf("%s on the page of %s: %v, not %v", what, where, got, want)
			}
		}
	}
}
