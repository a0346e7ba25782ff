package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
)

// maxDetails keeps the text under the size that travels well in a URL.
const maxDetails = 1900

// refreshDetails puts the present state where the Temporal UI shows it.
func (r *runner) refreshDetails() { workflow.SetCurrentDetails(r.ctx, r.details()) }

// details is the operator's console: what happens now, what a person has to do, where, with which message, and
// what happens if nobody does. Plain Markdown, no secrets. Where it gets too long, texts that came from elsewhere are
// cut, never what a person has to do.
func (r *runner) details() string { return fit(r.page) }

// page is the details with at most so many bytes of each text that came from elsewhere.
func (r *runner) page(most int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s · %s", bold(r.in.Key.Name), r.phase())
	if step := r.At.Step.Phase(); step != r.phase() {
		fmt.Fprintf(&b, " (%s)", step)
	}
	fmt.Fprintf(&b, " · %s · rotation %s\n\n%s\n", escape(string(r.in.Reason)), r.id, r.currentState(most))
	if r.Progress.Note != "" {
		fmt.Fprintf(&b, "\n**Note:** %s\n", sentence(r.prose(clip(r.Progress.Note, most))))
	}
	why, blocked := r.trouble()
	if blocked {
		fmt.Fprintf(&b, "\n**Blocked:** %s\n", sentence(r.prose(clip(why, most))))
	} else if why != "" {
		fmt.Fprintf(&b, "\n**Waiting:** %s\n", sentence(r.prose(clip(why, most))))
	}
	if text := r.leakNote(); text != "" {
		fmt.Fprintf(&b, "\n%s\n", text)
	}
	if steps := r.todo(most); len(steps) > 0 {
		b.WriteString("\n**What you do now**\n\n")
		for i, s := range steps {
			fmt.Fprintf(&b, "%d. %s\n", i+1, s)
		}
	} else if !r.At.Step.Closed() {
		if blocked {
			b.WriteString("\nrekey tries again by itself; fix the problem above if it persists.\n")
		} else {
			b.WriteString("\nYou need to do nothing.\n")
		}
	}
	if !r.Wait.Deadline.IsZero() && !r.At.Step.Closed() {
		fmt.Fprintf(&b, "\n%s\n", r.deadlineText())
	}
	if told := r.deliveriesLine(); told != "" && !r.At.Step.Closed() {
		fmt.Fprintf(&b, "\nTold: %s.\n", r.prose(clip(told, most)))
	}
	if note := r.noteText(); note != "" && !r.At.Step.Closed() {
		fmt.Fprintf(&b, "\n**Handed over** by %s\n", r.prose(clip(note, most)))
	}
	if ways := r.alternatives(); len(ways) > 0 {
		intro := "You can also send"
		if !r.At.Step.Phase().Waiting() {
			intro = "You can, with **More Actions**, **Send an Update**"
		}
		fmt.Fprintf(&b, "\n%s:\n\n", intro)
		for _, w := range ways {
			fmt.Fprintf(&b, "- %s\n", w)
		}
	}
	if r.At.Step.Phase().Waiting() {
		b.WriteString("\nIf an update gets no answer, **Send a Signal** with the same name and data. Never put a key into either.\n")
	}
	return b.String()
}

// currentState says what the present step is about.
func (r *runner) currentState(most int) string {
	provider := escape(r.in.Key.Provider)
	switch r.At.Step {
	case rotation.StepConflicts, rotation.StepPrepare:
		return "Looking before anything changes: is the key due, does every store answer, is there room for a new key."
	case rotation.StepCreate:
		return "Making a new key at " + provider + " and staging it where no application reads it."
	case rotation.StepAwaitKey, rotation.StepAdopt:
		return fmt.Sprintf("rekey cannot make keys at %s: a person makes the new one for %s. %s", provider, code(r.in.Key.Account), r.meanwhile())
	case rotation.StepStore:
		if r.backwards() {
			return "Rolling back: bringing the old value to every store."
		}
		return "Bringing the new value to every store; no application reads it yet."
	case rotation.StepVerify:
		if r.backwards() {
			return "Rolling back: proving that the old key still works."
		}
		return "Proving that the new key works, from every store."
	case rotation.StepPromote:
		if r.backwards() {
			return "Rolling back: making the old key current again in every store."
		}
		return "Making the new key current in every store."
	case rotation.StepGrace, rotation.StepRecheck:
		return fmt.Sprintf("Both keys work until %s, so that every application can pick up the %s one. Then the %s one is revoked.%s",
			moment(r.Direction.GraceUntil), r.direction(), r.otherDirection(), r.because(most))
	case rotation.StepGuard:
		return fmt.Sprintf("Asking whether the %s key is still in use, before it is revoked.%s", r.otherDirection(), r.because(most))
	case rotation.StepApproval:
		return "A person decides: " + sentence(r.prose(clip(r.question().Text, most)))
	case rotation.StepContain:
		return "Taking away what leaked, before there is a new key. Applications fail until there is."
	case rotation.StepEnable:
		return "Rolling back: enabling the old key again, and waiting until no request of ours can disable it any more."
	case rotation.StepDisable, rotation.StepSoak, rotation.StepDelete:
		if r.At.Step == rotation.StepSoak {
			return fmt.Sprintf("The %s key is disabled and will be deleted at %s. Until then it can be enabled again.", r.otherDirection(), moment(r.Direction.SoakUntil))
		}
		return fmt.Sprintf("Revoking the %s key, which is no longer needed.", r.otherDirection())
	case rotation.StepAwaitContainment:
		return fmt.Sprintf("A key has leaked and goes first. rekey cannot revoke keys at %s: a person does. Applications fail from then on until there is a new key.", provider)
	case rotation.StepAwaitRevocation:
		return fmt.Sprintf("Applications read the %s key. rekey cannot revoke keys at %s: a person revokes the %s one.%s", r.direction(), provider, r.otherDirection(), r.because(most))
	case rotation.StepConfirm:
		return fmt.Sprintf("Proving that the %s key is refused.", r.otherDirection())
	case rotation.StepRetire:
		return "Destroying the old versions in the stores and sweeping what abandoned attempts left."
	case rotation.StepDiscard:
		return "Discarding the new key; applications were never given it." + r.because(most)
	case rotation.StepRolledBack:
		return "Rolled back; applications read the old key." + r.because(most)
	case rotation.StepCompleted:
		if r.Progress.Outcome == "" && r.Keys.New != nil {
			return r.done()
		}
		return sentence(r.prose(clip(r.Progress.Outcome, most)))
	}
	return ""
}

// trouble says what the rotation waits for or why it is blocked, if it is. rekey tries again by itself either way.
func (r *runner) trouble() (why string, blocked bool) {
	switch {
	case r.Blocked.Why != "":
		return r.Blocked.Why, true
	case r.Poll.At.After(r.now()):
		return r.Poll.Why, !r.now().Before(r.Poll.ExpectedUntil)
	case r.At.Step.Phase() == rotation.Grace:
		return r.Direction.Trouble, r.Direction.Trouble != ""
	}
	return "", false
}

// because says why a rotation goes back.
func (r *runner) because(most int) string {
	if r.Progress.Outcome == "" {
		return ""
	}
	return " Why: " + sentence(r.prose(clip(r.Progress.Outcome, most)))
}

// meanwhile says how applications fare while there is no new key.
func (r *runner) meanwhile() string {
	switch {
	case r.Emergency.Contained:
		return "The key that leaked is gone: applications fail until there is a new one."
	case r.Keys.Prepared.OldRefused:
		return "The key that applications read is refused: they fail until there is a new one."
	case len(r.Keys.Old) == 0:
		return "There is no key yet that applications could read."
	}
	if r.emergency() {
		return "Until there is one, what leaked stays live."
	}
	return "Applications go on with the old one meanwhile."
}

// done names what a completed rotation made and took away.
func (r *runner) done() string {
	text := fmt.Sprintf("Done: applications read the new key, %s.", describe(*r.Keys.New))
	if n := len(r.Carry.Revoked); n > 3 {
		return text + fmt.Sprintf(" Keys revoked: %d.", n)
	} else if n > 0 {
		text += " Revoked: " + escape(r.listed(r.Carry.Revoked)) + "."
	}
	return text
}

func (r *runner) direction() string {
	if r.backwards() {
		return "old"
	}
	return "new"
}

func (r *runner) otherDirection() string {
	if r.backwards() {
		return "new"
	}
	return "old"
}

func moment(t time.Time) string { return t.UTC().Format(rotation.MinuteLayout) }

// sentence ends a text with a full stop, unless it ends with an address or already does.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	last := text[strings.LastIndexByte(text, ' ')+1:]
	if text == "" || strings.ContainsAny(text[len(text)-1:], ".!?:") || strings.HasSuffix(text, "…") || strings.HasPrefix(last, "https://") {
		return text
	}
	return text + "."
}

// clip shortens a text that came from elsewhere, between words.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = strings.ToValidUTF8(text[:most], "")
	if i := strings.LastIndexByte(text, ' '); i > most/2 {
		text = text[:i]
	}
	return text + " …"
}

// StaticSummary is the line that the Temporal UI shows above the details. The way to them is shown where a person looks
// first: in the summaries of timers.
func StaticSummary(in Input) string {
	return escape(fmt.Sprintf("%s rotation of %s", in.Reason, in.Key.Name))
}

// StaticDetails is what the Temporal UI shows about a rotation for as long as it is kept.
func StaticDetails(in Input) string {
	k := in.Key
	var places []string
	for _, l := range k.Stores {
		places = append(places, code(l.String()))
	}
	text := fmt.Sprintf("Replaces the key %s of %s at %s, which applications read in %s.\n\nReason: %s.", bold(k.Name), code(k.Account),
		escape(k.Provider), strings.Join(places, ", "), escape(string(in.Reason)))
	if in.By != "" {
		text += " Asked by " + escape(clip(in.By, 100)) + "."
	}
	if in.Why != "" {
		text += " Why: " + sentence(prose(clip(in.Why, 400)))
	}
	return text + fmt.Sprintf("\n\nGrace period %s. *Current Details* says what happens now and what you do. *More Actions*, *Send an Update* lists the messages that it takes."+
		"\n\n*Request Cancellation* means: roll back, between steps, as long as there is a way back. Do not *Terminate*: nothing is cleaned up then,"+
		" and both keys stay live until the key's next rotation. Never put a key into a message.", k.Policy.Grace)
}
