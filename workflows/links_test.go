package workflows_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/markdowntest"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// What people and senders say stands on the page of a rotation under way, too, beside rekey's own links.
func TestOnAPageWithConsolesNothingElseIsALink(t *testing.T) {
	t.Parallel()
	for what, foreign := range map[string]string{
		"a link":                             "[log in](https://evil.example)",
		"a link whose escapes are escaped":   `\[log in\](https://evil.example)`,
		"a bare address":                     "see https://evil.example/login now",
		"an address of a person":             "write to admin@evil.example or mailto:admin@evil.example",
		"a console with something behind it": "https://console.cloud.google.com/cloudshell/open?git_repo=https://evil.example",
		"HTML":                               `<img src=x onerror=alert(1)> <!-- --> <script>`,
		"code":                               "`x` ``y`` ```z``` `",
	} {
		t.Run(what, func(t *testing.T) {
			r := newFixture(t, manualKey())
			r.in.Why = foreign
			console := r.acts.Providers["openai"].Console(r.in.Key.Account)
			r.after(time.Hour, func() {
				r.signal(rotation.AddNote, rotation.DecisionMessage{By: foreign, Why: foreign + " " + console})
				r.signal(rotation.KeyRevoked, rotation.DecisionMessage{By: foreign})
			})
			r.after(2*time.Hour, func() {
				d := r.status().Details
				if !strings.Contains(d, "Handed over") {
					t.Errorf("nobody said anything:\n%s", d)
				}
				for who, render := range markdowntest.Renderers {
					got := render(d).Links
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
	t.Parallel()
	r := newFixture(t, manualKey())
	for name, s := range r.acts.Stores {
		r.acts.Stores[name] = broken{s}
	}
	r.after(time.Hour, func() {
		d := r.status().Details
		for who, render := range markdowntest.Renderers {
			if got := render(d).Links; !slices.Equal(got, []string{brokenConsole}) {
				t.Errorf("%s shows the links %q:\n%s", who, got, d)
			}
		}
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.run()
}
