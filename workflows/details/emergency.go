package details

import (
	"fmt"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// Emergency is the page of an emergency over many keys.
type Emergency struct {
	ID, By, Why string
	// Counts says in words how many keys are in which state.
	Counts string
	// Leak says what to do about a key in the history.
	Leak string
	// These keys need somebody, NotRaised do not.
	Waiting, Unreadable, Failed []EmergencyKey
	NotRaised                   []EmergencyKey
	Ended                       bool
}

// EmergencyKey is one key of an emergency.
type EmergencyKey struct {
	// Key is its name, Workflow the id of its rotations.
	Key, Workflow string
	Phase         rotation.Phase
	// Why says what is in the way; empty where the phase says enough.
	Why string
}

// Render writes the page. It is cut by naming fewer keys, never in the middle of what a person has to do.
func (e Emergency) Render() string {
	var text string
	for _, listed := range []int{8, 5, 3, 1, 0} {
		if text = e.render(listed); len(text) <= maxPage {
			break
		}
	}
	return wholeLines(text)
}

// render is the page with at most so many keys of each group.
func (e Emergency) render(listed int) string {
	var b strings.Builder
	resume := code("rekey emergency --resume " + e.ID)
	fmt.Fprintf(&b, "%s · raised by %s: %s\n\n%s\n", bold("Emergency "+e.ID), Escape(clip(e.By, 100)), Sentence(prose(clip(e.Why, 200))), e.Counts)
	if e.Leak != "" {
		fmt.Fprintf(&b, "\n%s\n", prose(e.Leak))
	}
	for _, group := range []struct {
		words string
		keys  []EmergencyKey
	}{
		{"**Waiting for a person**: open each one; its *User Metadata* says what to do", e.Waiting},
		{"**Unreadable**: check each one; rekey looks again", e.Unreadable},
		{"**Failed**: check each one", e.Failed},
		{"**Not raised**", e.NotRaised},
	} {
		if len(group.keys) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n\n", group.words)
		for _, k := range group.keys[:min(listed, len(group.keys))] {
			about := Escape(string(k.Phase))
			if k.Why != "" {
				about = prose(clip(k.Why, 80))
			}
			fmt.Fprintf(&b, "- %s %s (%s)\n", code(k.Workflow), about, code("rekey explain "+k.Key))
		}
		if n := len(group.keys) - listed; n > 0 {
			fmt.Fprintf(&b, "- and %d more: %s\n", n, resume)
		}
	}
	if !e.Ended {
		if len(e.Waiting)+len(e.Unreadable)+len(e.Failed) == 0 {
			b.WriteString("\nNo action needed.\n")
		}
		fmt.Fprintf(&b, "\nWatch it: %s. **Request Cancellation** stops raising the emergency for further keys; rotations that have begun go on.\n", resume)
	}
	return b.String()
}

// EmergencyStart is what an emergency over many keys is started with. The Temporal UI shows it for as long as the emergency
// is kept.
type EmergencyStart struct {
	Keys    int
	Message rotation.DecisionMessage
}

// Summary is the line above the details.
func (e EmergencyStart) Summary() string { return fmt.Sprintf("emergency over %d key(s)", e.Keys) }

// Render writes what does not change while the emergency goes on.
func (e EmergencyStart) Render() string {
	m, what := e.Message, "every value made before it was raised"
	if len(m.Leaked) > 0 {
		what = "what was named as leaked: " + Escape(clip(strings.Join(m.Leaked, ", "), 200))
	}
	text := fmt.Sprintf("Replaces %s of %d key(s) now, without a grace period", what, e.Keys)
	if m.For > 0 {
		text = fmt.Sprintf("Replaces %s of %d key(s), with a grace period of %s", what, e.Keys, m.For)
	}
	if m.RevokeFirst {
		text += "; what leaked is revoked before there is a new key, and applications fail until there is one"
	}
	return text + fmt.Sprintf(".\n\nRaised by %s. Why: %s\n\nEach key has a rotation of its own, `rotate/` and its name. *Request Cancellation* stops raising the emergency for further keys."+
		" *Terminate* does the same and leaves no result. Neither ends a rotation that has begun.", Escape(clip(m.By, 100)), Sentence(prose(clip(m.Why, 400))))
}
