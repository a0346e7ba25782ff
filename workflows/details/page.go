// Package details renders the operator's pages, which the Temporal UI shows about a workflow: each is a pure function of a
// value.
package details

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// Page is all that the page of a rotation says. It holds no secrets.
type Page struct {
	// Key is the name of the key, at Provider under Account; First is the first of its stores.
	Key, Provider, Account string
	First                  rotation.Location
	// Rotation is the rotation's id.
	Rotation  string
	Reason    rotation.Reason
	StartedAt time.Time
	// Context is where the rotation is, and what it judges a decision by: nothing is proposed that would be refused.
	Context rotation.DecisionContext
	// Outcome says why the rotation ends as it does, Note explains its latest turn.
	Outcome, Note string
	// Why says what the present step waits for, or why it is Blocked.
	Why     string
	Blocked bool
	// Old are the keys of before, New is the one that replaces them. Incoming is the one of them that applications read in
	// the end, in the present direction; Outgoing are revoked.
	Old      []Key
	New      *Key
	Incoming *Key
	Outgoing []Key
	// OldRefused: the provider refuses the key that applications read. Contained: what leaked is gone already.
	OldRefused, Contained bool
	// Revoked names the keys that were revoked, as the provider's console lists them.
	Revoked []string
	// ProviderConsole and StoreConsole are where a person manages keys and versions. Besides these, Links are the only
	// addresses that stay links in texts of others.
	ProviderConsole, StoreConsole string
	Links                         []string
	// SoakUntil is when the disabled keys are deleted.
	SoakUntil time.Time
	// Question is what a person is asked in awaiting-approval.
	Question Question
	// FourEyes: approvals and the end of the grace period take the signatures of two operators. Signed names who has
	// signed.
	FourEyes bool
	Signed   []string
	// AtDeadline is what happens if nobody acts. Notifies: the policy has channels. Reminders is how often people were
	// reminded.
	AtDeadline Consequence
	Notifies   bool
	Reminders  int
	// Deliveries are what became of notifications.
	Deliveries []rotation.Delivery
	// Handover is what somebody left for whoever comes next.
	Handover *rotation.Decision
	// FollowUps are what an ended rotation leaves to a person.
	FollowUps []string
	// Leak is a key in the history of this rotation.
	Leak *Leak
}

// Key is a key as a person finds it: by the provider's id, or by how the provider's console lists it.
type Key struct {
	ID, Fingerprint, Shown string
	// AddedAt is when the value came into a store.
	AddedAt time.Time
}

// Question is what a person is asked.
type Question struct {
	ID, Text string
	// Approve and Reject say what each answer does.
	Approve, Reject string
}

// Leak is a key that somebody sent in a message.
type Leak struct {
	Fingerprint string
	// Purge is the command that deletes the history.
	Purge string
}

// Consequence is what happens at a deadline.
type Consequence string

// The consequences. Without one, the wait is overdue from then on.
const (
	Overdue       Consequence = ""
	RollsBack     Consequence = "rolls-back"
	TriesRollBack Consequence = "tries-roll-back"
)

// Render writes the page in Markdown: what happens now, what a person has to do, where, with which message, and what
// happens if nobody does. Where it gets too long, texts that came from elsewhere are cut, never what a person has to do.
func (p Page) Render() string { return fit(p.render) }

// render is the page with at most so many bytes of each text that came from elsewhere.
func (p Page) render(most int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s · %s", bold(p.Key), p.Context.Phase())
	if step := p.Context.Step.Phase(); step != p.Context.Phase() {
		fmt.Fprintf(&b, " (%s)", step)
	}
	fmt.Fprintf(&b, " · %s · rotation %s\n\n%s\n", Escape(string(p.Reason)), p.Rotation, p.now(most))
	if p.Note != "" {
		fmt.Fprintf(&b, "\n**Note:** %s\n", p.quote(p.Note, most))
	}
	if p.Blocked {
		fmt.Fprintf(&b, "\n**Blocked:** %s\n", p.quote(p.Why, most))
	} else if p.Why != "" {
		fmt.Fprintf(&b, "\n**Waiting:** %s\n", p.quote(p.Why, most))
	}
	if p.Leak != nil && p.open() {
		fmt.Fprintf(&b, "\n%s\n", p.leak())
	}
	if steps := p.steps(most); len(steps) > 0 {
		b.WriteString("\n**What to do now**\n\n")
		for i, s := range steps {
			fmt.Fprintf(&b, "%d. %s\n", i+1, s)
		}
	} else if p.open() {
		if p.Blocked {
			b.WriteString("\nrekey tries again by itself; fix the problem above if it persists.\n")
		} else {
			b.WriteString("\nNo action needed.\n")
		}
	}
	if p.open() {
		p.renderWait(&b, most)
	}
	if ways := p.alternatives(); len(ways) > 0 {
		intro := "You can also send"
		if !p.waiting() {
			intro = "You can, with **More Actions**, **Send an Update**"
		}
		fmt.Fprintf(&b, "\n%s:\n\n", intro)
		for _, w := range ways {
			fmt.Fprintf(&b, "- %s\n", w)
		}
	}
	if p.waiting() {
		b.WriteString("\nIf an update gets no answer, **Send a Signal** with the same name and data. Never put a key into either.\n")
	}
	return b.String()
}

// renderWait writes until when a person is waited for, and who knows of it.
func (p Page) renderWait(b *strings.Builder, most int) {
	if !p.Context.Deadline.IsZero() {
		fmt.Fprintf(b, "\n%s\n", p.deadline())
	}
	if len(p.Deliveries) > 0 {
		fmt.Fprintf(b, "\nNotified: %s.\n", p.prose(clip(deliveries(p.Deliveries), most)))
	}
	if n := p.Handover; n != nil {
		fmt.Fprintf(b, "\n**Handed over** by %s\n", p.prose(clip(fmt.Sprintf("%s, %s: %s", n.By, Moment(n.At), n.Why), most)))
	}
}

func (p Page) step() rotation.Step { return p.Context.Step }

// open reports whether the rotation is still under way.
func (p Page) open() bool { return !p.step().Closed() }

// waiting reports whether the rotation waits for a person.
func (p Page) waiting() bool { return p.step().Phase().Waiting() }

func (p Page) emergency() bool { return p.Reason == rotation.Emergency }

// backwards reports whether the rotation goes back to the old key after it had promoted the new one.
func (p Page) backwards() bool { return p.Context.Commitment == rotation.Reversing }

// incoming is the key that the present direction makes current, outgoing the one that it revokes.
func (p Page) incoming() string {
	if p.backwards() {
		return "old"
	}
	return "new"
}

func (p Page) outgoing() string {
	if p.backwards() {
		return "new"
	}
	return "old"
}

// now says what the present step is about.
func (p Page) now(most int) string {
	provider := Escape(p.Provider)
	switch p.step() {
	case rotation.StepConflicts, rotation.StepPrepare:
		return "Checking before anything changes: whether the key is due, every store answers, and there is room for a new key."
	case rotation.StepCreate:
		return "Creating a new key at " + provider + " and staging it where no application reads it."
	case rotation.StepAwaitKey, rotation.StepAdopt:
		return fmt.Sprintf("rekey cannot create keys at %s: somebody has to create the new one for %s. %s", provider, code(p.Account), p.meanwhile())
	case rotation.StepStore:
		if p.backwards() {
			return "Rolling back: writing the old value to every store."
		}
		return "Writing the new value to every store; no application reads it yet."
	case rotation.StepVerify:
		if p.backwards() {
			return "Rolling back: verifying that the old key still works."
		}
		return "Verifying, from every store, that the new key works."
	case rotation.StepPromote:
		if p.backwards() {
			return "Rolling back: making the old key current again in every store."
		}
		return "Making the new key current in every store."
	case rotation.StepGrace, rotation.StepRecheck:
		return fmt.Sprintf("Both keys work until %s, so that every application can pick up the %s one. Then the %s one is revoked.%s",
			Moment(p.Context.GraceUntil), p.incoming(), p.outgoing(), p.because(most))
	case rotation.StepGuard:
		return fmt.Sprintf("Checking whether the %s key is still in use before it is revoked.%s", p.outgoing(), p.because(most))
	case rotation.StepApproval:
		return "Decision needed: " + p.quote(p.Question.Text, most)
	case rotation.StepContain:
		return "Revoking what leaked before there is a new key. Applications fail until there is one."
	case rotation.StepEnable:
		return "Rolling back: enabling the old key again, and waiting until no earlier request can disable it any more."
	case rotation.StepSoak:
		return fmt.Sprintf("The %s key is disabled and will be deleted at %s. Until then it can be enabled again.", p.outgoing(), Moment(p.SoakUntil))
	case rotation.StepDisable, rotation.StepDelete:
		return fmt.Sprintf("Revoking the %s key, which is no longer needed.", p.outgoing())
	case rotation.StepAwaitContainment:
		return fmt.Sprintf("What leaked is revoked first. rekey cannot revoke keys at %s: somebody has to do it. From then on applications fail until there is a new key.", provider)
	case rotation.StepAwaitRevocation:
		return fmt.Sprintf("Applications read the %s key. rekey cannot revoke keys at %s: somebody has to revoke the %s one.%s", p.incoming(), provider, p.outgoing(), p.because(most))
	case rotation.StepConfirm:
		return fmt.Sprintf("Verifying that the %s key is refused.", p.outgoing())
	case rotation.StepRetire:
		return "Destroying the old versions in the stores and cleaning up what abandoned attempts left."
	case rotation.StepDiscard:
		return "Discarding the new key; it was never given to applications." + p.because(most)
	case rotation.StepRolledBack:
		return "Rolled back; applications read the old key." + p.because(most)
	case rotation.StepCompleted:
		if p.Outcome == "" && p.New != nil {
			return p.done()
		}
		return p.quote(p.Outcome, most)
	}
	return ""
}

// because says why a rotation goes back.
func (p Page) because(most int) string {
	if p.Outcome == "" {
		return ""
	}
	return " Why: " + p.quote(p.Outcome, most)
}

// meanwhile says how applications fare while there is no new key.
func (p Page) meanwhile() string {
	switch {
	case p.Contained:
		return "The leaked key is gone: applications fail until there is a new one."
	case p.OldRefused:
		return "The key that applications read is refused: they fail until there is a new one."
	case len(p.Old) == 0:
		return "There is no key yet that applications could read."
	case p.emergency():
		return "Until there is one, what leaked stays live."
	}
	return "Applications keep using the old one meanwhile."
}

// done names what a completed rotation made and took away.
func (p Page) done() string {
	text := fmt.Sprintf("Done: applications read the new key, %s.", describe(*p.New))
	if n := len(p.Revoked); n > 3 {
		text += fmt.Sprintf(" Keys revoked: %d.", n)
	} else if n > 0 {
		text += " Revoked: " + Escape(strings.Join(p.Revoked, ", ")) + "."
	}
	return text
}

// leak says what to do about a key in the history.
func (p Page) leak() string {
	return fmt.Sprintf("**A key is in this history**, sent in a message (fingerprint %s). rekey treats it as leaked. 1. Revoke it, if it is live: %s. 2. Create another. 3. When this rotation has ended, delete its history: %s.",
		code(p.Leak.Fingerprint), p.console(), code(p.Leak.Purge))
}

// quote is a sentence that came from elsewhere, with at most so many bytes.
func (p Page) quote(text string, most int) string { return Sentence(p.prose(clip(text, most))) }

// prose is prose with the addresses that are rekey's own in this rotation.
func (p Page) prose(text string) string {
	return prose(text, append(slices.Clone(p.Links), p.ProviderConsole, p.StoreConsole)...)
}

// console is a link to where a person manages the keys.
func (p Page) console() string { return link(p.Provider+" console", p.ProviderConsole) }
