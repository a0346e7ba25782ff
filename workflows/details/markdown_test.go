package details_test

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	markdown "github.com/gomarkdown/markdown"
	"github.com/gomarkdown/markdown/html"
	"github.com/gomarkdown/markdown/parser"

	"github.com/rekeyhq/rekey/internal/markdowntest"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// pages are all pages, with one text in every place that others fill.
func pages(foreign string) map[string]string {
	key := rotation.Key{Name: foreign, Provider: foreign, Account: foreign, Stores: []rotation.Location{{Store: foreign, Path: foreign}}}
	m := rotation.DecisionMessage{By: foreign, Why: foreign, Leaked: []string{foreign}}
	row := details.EmergencyKey{Key: foreign, Workflow: foreign, Why: foreign}
	all := map[string]string{
		"a rotation":               details.Start{Key: key, Reason: rotation.Reason(foreign), By: foreign, Why: foreign}.Render(),
		"a rotation's summary":     "A line: " + details.Start{Key: key, Reason: rotation.Manual}.Summary(),
		"a trigger":                details.TriggerStart{Source: foreign, Keys: []string{foreign}, Fingerprints: []string{foreign}, Why: foreign}.Render(),
		"an emergency":             details.EmergencyStart{Keys: 1, Message: m}.Render(),
		"a reason behind an input": details.TriggerStart{Source: "ci", Why: `{"by": "o"}` + foreign + `{"by": "o"}`}.Render(),
		"a trigger's result":       "A line: " + details.Trigger{Ended: true, Why: foreign}.Render(),
		"a dispatcher":             details.Dispatch{Key: foreign, Workflow: foreign, Leak: "A key. " + foreign}.Render(),
		"a notification":           details.End{Deliveries: []rotation.Delivery{{Channel: foreign, Problem: foreign}}}.Render(),
		"an emergency under way":   details.Emergency{ID: foreign, By: foreign, Why: foreign, Counts: "1 of 1 done.", Failed: []details.EmergencyKey{row}, Unreadable: []details.EmergencyKey{row}}.Render(),
	}
	for where, p := range rotations(foreign) {
		all[where] = p.Render()
	}
	return all
}

// rotations are pages of rotations, with one text in every place that others fill. They have rekey's own links, too.
func rotations(foreign string) map[string]details.Page {
	at := func(s rotation.Step) details.Page {
		p := page(s, rotation.BothKeys)
		p.Context.Deadline = deadline
		return p
	}
	names := at(rotation.StepAwaitKey)
	names.Key, names.Provider = foreign, foreign
	places := at(rotation.StepAwaitKey)
	places.Account, places.First = foreign, rotation.Location{Store: foreign, Path: foreign}
	said := at(rotation.StepAwaitKey)
	said.Note, said.Handover = foreign, &rotation.Decision{DecisionMessage: rotation.DecisionMessage{By: foreign, Why: foreign + " " + said.ProviderConsole}, At: begin}
	blocked := at(rotation.StepGrace)
	blocked.Why, blocked.Blocked, blocked.Outcome, blocked.Reason = foreign, true, foreign, rotation.Reason(foreign)
	blocked.Deliveries = []rotation.Delivery{{Channel: foreign, At: begin, Problem: foreign}}
	asked := at(rotation.StepApproval)
	asked.Question.Text, asked.FourEyes, asked.Signed = foreign, true, []string{foreign, foreign}
	keys := at(rotation.StepAwaitRevocation)
	keys.Incoming, keys.Outgoing, keys.Leak = &details.Key{ID: foreign}, []details.Key{{Fingerprint: foreign, Shown: foreign}}, &details.Leak{Fingerprint: foreign, Purge: foreign}
	done := at(rotation.StepCompleted)
	done.Outcome, done.New, done.Revoked, done.FollowUps = "", &details.Key{Shown: foreign}, []string{foreign, foreign}, []string{"Look. " + foreign}
	return map[string]details.Page{
		"names in a rotation": names, "places in a rotation": places, "what people said to a rotation": said, "a rotation that is blocked": blocked, "a question": asked, "keys to revoke": keys, "the end of a rotation": done,
	}
}

// plainly are the pages with a text that means nothing: a name that rekey.yaml can have is bold, any other is code.
var plainly = sync.OnceValue(func() map[string][]string {
	all := map[string][]string{}
	for _, text := range []string{"x", "x!"} {
		for where, source := range pages(text) {
			for who, render := range markdowntest.Renderers {
				all[where+who] = append(all[where+who], render(source).Shape)
			}
		}
	}
	return all
})

// harmless checks that a text is nothing but text, wherever it comes to stand, and that nothing but rekey's own is a link.
func harmless(t *testing.T, foreign string) {
	t.Helper()
	own := []string{providerConsole, storeConsole}
	for where, source := range pages(foreign) {
		for who, render := range markdowntest.Renderers {
			got, want := render(source), plainly()[where+who]
			if !slices.Contains(want, got.Shape) || slices.ContainsFunc(got.Links, func(l string) bool { return !slices.Contains(own, l) }) {
				t.Errorf("%q on the page of %s, as %s shows it: links %q\n got %s\nwant %s\n%s", foreign, where, who, got.Links, got.Shape, want, source)
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
			in := details.TriggerStart{Source: "ci", Why: foreign}
			for who, render := range markdowntest.Renderers {
				if got := render(in.Render()).Text; !strings.Contains(got, markdowntest.Squeeze(foreign)) {
					t.Errorf("%s shows %q, not %q", who, got, markdowntest.Squeeze(foreign))
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
	for range 1000 {
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
		if foreign == "" || len(foreign) > 60 {
			t.Skip("what nobody said has no line, and what does not fit is cut")
		}
		harmless(t, foreign)
	})
}

func TestBesideTextOfOthersTheConsolesAreLinks(t *testing.T) {
	for what, foreign := range attacks {
		for where, want := range map[string][]string{"what people said to a rotation": {providerConsole, storeConsole}, "keys to revoke": {providerConsole}} {
			source := pages(foreign)[where]
			for who, render := range markdowntest.Renderers {
				for _, console := range want {
					if !slices.Contains(render(source).Links, console) {
						t.Errorf("%s: %s shows no link to %s:\n%s", what, who, console, source)
					}
				}
			}
		}
	}
}

func TestAConsoleThatAFailureNamesIsALinkAndNothingElseInIt(t *testing.T) {
	const broken = "https://console.cloud.google.com/security/secret-manager/secret/gpt-pending/versions?project=acme-prod"
	p := page(rotation.StepPrepare, rotation.Looking)
	p.Why, p.Blocked, p.Links = "check https://evil.example/gpt. Look at www.evil.example and at "+broken+".", true, []string{broken}
	for who, render := range markdowntest.Renderers {
		if got := render(p.Render()).Links; !slices.Equal(got, []string{broken}) {
			t.Errorf("%s shows the links %q:\n%s", who, got, p.Render())
		}
	}
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
	bold, code := pages("x"), pages("x!")
	for what, foreign := range attacks {
		for where, source := range pages(foreign) {
			got, bold, code := render(source), render(bold[where]), render(code[where])
			if !slices.Equal(got, code) && !slices.Equal(got, bold) {
				t.Errorf("%s on the page of %s: %v, not %v", what, where, got, code)
			}
		}
	}
}
