package details

import (
	"fmt"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// Dispatch is the page of a workflow that starts a rotation if a key is due.
type Dispatch struct {
	// Key is the key's name, Workflow the id of its rotations.
	Key, Workflow string
	// Why says what was done; empty until then.
	Why string
	// Leak says what to do about a key in the history.
	Leak string
}

// Render writes the page.
func (d Dispatch) Render() string {
	return fit(func(most int) string {
		if d.Why != "" {
			return below(d.Leak, Sentence(prose(clip(d.Why, most))))
		}
		return below(d.Leak, fmt.Sprintf("Checking with store and provider whether %s is due, and starting its rotation %s if it is.\n\n"+
			"No action needed. If they do not answer for an hour this fails, and the next scheduled run asks again.", bold(d.Key), code(d.Workflow)))
	})
}

// Trigger is the page of a workflow that starts the rotations which a delivery from outside asks for.
type Trigger struct {
	// Searches: the delivery names a value, not keys. Patience is for how long its key is searched.
	Searches bool
	Patience time.Duration
	// Ended: the rotations have begun, as Why says.
	Ended bool
	Why   string
	// Leak says what to do about a key in the history.
	Leak string
}

// Render writes the page.
func (t Trigger) Render() string {
	return fit(func(most int) string {
		switch {
		case t.Ended:
			return below(t.Leak, Sentence(prose(clip(t.Why, most))))
		case !t.Searches:
			return below(t.Leak, "Starting the rotations that the source asks for.\n\nNo action needed.")
		}
		return below(t.Leak, fmt.Sprintf("Finding out whose value was reported, and starting that key's rotation.\n\nNo action needed. If stores or providers do not answer, this tries again for %d days and then fails."+
			" If you know whose value it is, do not wait: `rekey emergency KEY`.", int(t.Patience.Hours()/24)))
	})
}

// TriggerStart is a delivery from outside. The Temporal UI shows it for as long as the trigger is kept.
type TriggerStart struct {
	Source             string
	Leaked             bool
	Keys, Fingerprints []string
	Why                string
}

// Render writes what does not change while the trigger goes on.
func (t TriggerStart) Render() string {
	text := fmt.Sprintf("A delivery from the source %s", bold(t.Source))
	if t.Leaked {
		text += ", which reports a leak"
	}
	text += ". It starts rotations; it can neither approve nor revoke first."
	if len(t.Fingerprints) > 0 {
		text += "\n\nReported value: fingerprint " + Escape(clip(strings.Join(t.Fingerprints, " or "), 400)) + "."
	}
	if len(t.Keys) > 0 {
		text += "\n\nKeys: " + Escape(clip(strings.Join(t.Keys, ", "), 400)) + "."
	}
	if t.Why != "" {
		text += "\n\nWhy: " + Sentence(prose(clip(t.Why, 400)))
	}
	return text + "\n\n*Request Cancellation* and *Terminate* keep further rotations from starting; those that have begun go on."
}

// End is the page of a workflow that notifies channels of a rotation's end.
type End struct {
	Deliveries []rotation.Delivery
	// Leak says what to do about a key in the history.
	Leak string
}

// Render writes the page.
func (e End) Render() string {
	return fit(func(most int) string {
		var parts []string
		for _, d := range e.Deliveries {
			if d.Problem != "" {
				parts = append(parts, d.Channel+" could not be notified: "+d.Problem)
				continue
			}
			parts = append(parts, d.Channel+" "+Moment(d.At))
		}
		return below(e.Leak, "Notified: "+Escape(clip(strings.Join(parts, "; "), most)))
	})
}

// below puts a page below what it says about a key in the history.
func below(leak, page string) string { return strings.TrimSpace(prose(leak) + "\n\n" + page) }
