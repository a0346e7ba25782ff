package workflows

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
)

// maxDetails keeps the text under the size that travels well in a URL.
const maxDetails = 1900

// show puts the present state where the Temporal UI shows it.
func (r *rotator) show() { workflow.SetCurrentDetails(r.ctx, r.details()) }

// details is the operator's console: what happens now, what a person has to do, where, with which message, and
// what happens if nobody does. Plain Markdown, no secrets. Where it gets too long, texts that came from elsewhere are
// cut, never what a person has to do.
func (r *rotator) details() string {
	var text string
	for _, most := range []int{1200, 700, 400, 250, 150, 80, 40} {
		if text = r.page(most); len(text) <= maxDetails {
			return text
		}
	}
	return strings.ToValidUTF8(text[:maxDetails], "") + " …"
}

// page is the details with at most so many bytes of each text that came from elsewhere.
func (r *rotator) page(most int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** · %s", escape(r.in.Key.Name), r.phase())
	if r.phase() != r.Step {
		fmt.Fprintf(&b, " (%s)", r.Step)
	}
	fmt.Fprintf(&b, " · %s · rotation %s\n\n%s\n", r.in.Reason, r.id, r.happening(most))
	if r.Note != "" {
		fmt.Fprintf(&b, "\n**Note:** %s\n", sentence(prose(clip(r.Note, most))))
	}
	if r.Stall != "" {
		fmt.Fprintf(&b, "\n**Not getting on:** %s\n", sentence(prose(clip(r.Stall, most))))
	}
	if text := r.exposed(); text != "" {
		fmt.Fprintf(&b, "\n%s\n", text)
	}
	if steps := r.todo(most); len(steps) > 0 {
		b.WriteString("\n**What you do now**\n\n")
		for i, s := range steps {
			fmt.Fprintf(&b, "%d. %s\n", i+1, s)
		}
	} else if !r.Step.Closed() {
		if r.Stall != "" {
			b.WriteString("\nrekey tries again by itself; see to what stands above if it lasts.\n")
		} else {
			b.WriteString("\nYou need to do nothing.\n")
		}
	}
	if !r.Deadline.IsZero() && !r.Step.Closed() {
		fmt.Fprintf(&b, "\n%s\n", r.otherwise())
	}
	if told := r.toldLine(); told != "" && !r.Step.Closed() {
		fmt.Fprintf(&b, "\nTold: %s.\n", prose(clip(told, most)))
	}
	if note := r.handedOver(); note != "" && !r.Step.Closed() {
		fmt.Fprintf(&b, "\n**Handed over** by %s\n", prose(clip(note, most)))
	}
	if ways := r.ways(); len(ways) > 0 {
		intro := "You can also send"
		if !r.Step.Waiting() {
			intro = "You can, with **More Actions**, **Send an Update**"
		}
		fmt.Fprintf(&b, "\n%s:\n\n", intro)
		for _, w := range ways {
			fmt.Fprintf(&b, "- %s\n", w)
		}
	}
	if r.Step.Waiting() {
		b.WriteString("\nIf an update gets no answer, **Send a Signal** with the same name and data. Never put a key into either.\n")
	}
	return b.String()
}

// happening says what the present step is about.
func (r *rotator) happening(most int) string {
	provider := escape(r.in.Key.Provider)
	switch r.Step {
	case rotation.Prepare:
		return "Looking before anything changes: is the key due, does every store answer, is there room for a new key."
	case rotation.Create:
		return "Making a new key at " + provider + " and staging it where no application reads it."
	case rotation.AwaitingKey:
		return fmt.Sprintf("rekey cannot make keys at %s: a person makes the new one for `%s`. %s", provider, escape(r.in.Key.Account), r.meanwhile())
	case rotation.Store:
		if r.Reverse {
			return "Rolling back: bringing the old value to every store."
		}
		return "Bringing the new value to every store; no application reads it yet."
	case rotation.Verify:
		if r.Reverse {
			return "Rolling back: proving that the old key still works."
		}
		return "Proving that the new key works, from every store."
	case rotation.Promote:
		if r.Reverse {
			return "Rolling back: making the old key current again in every store."
		}
		return "Making the new key current in every store."
	case rotation.Grace:
		return fmt.Sprintf("Both keys work until %s, so that every application can pick up the %s one. Then the %s one is revoked.%s",
			stamp(r.GraceUntil), r.direction(), r.otherDirection(), r.because(most))
	case rotation.Guard:
		return fmt.Sprintf("Asking whether the %s key is still in use, before it is revoked.%s", r.otherDirection(), r.because(most))
	case rotation.AwaitingApproval:
		return "A person decides: " + sentence(prose(clip(r.Question, most)))
	case rotation.Revoke:
		if r.ContainThen != "" {
			return "Taking away what leaked, before there is a new key. Applications fail until there is."
		}
		if !r.SoakUntil.IsZero() {
			return fmt.Sprintf("The %s key is disabled and will be deleted at %s. Until then it can be enabled again.", r.otherDirection(), stamp(r.SoakUntil))
		}
		return fmt.Sprintf("Revoking the %s key, which is no longer needed.", r.otherDirection())
	case rotation.AwaitingRevocation:
		if r.ContainThen != "" {
			return fmt.Sprintf("A key has leaked and goes first. rekey cannot revoke keys at %s: a person does. Applications fail from then on until there is a new key.", provider)
		}
		return fmt.Sprintf("Applications read the %s key. rekey cannot revoke keys at %s: a person revokes the %s one.%s", r.direction(), provider, r.otherDirection(), r.because(most))
	case rotation.Confirm:
		return fmt.Sprintf("Proving that the %s key is refused.", r.otherDirection())
	case rotation.Retire:
		return "Destroying the old versions in the stores and sweeping what abandoned attempts left."
	case rotation.RollingBack:
		return "Discarding the new key; applications were never given it." + r.because(most)
	case rotation.RolledBack:
		return "Rolled back; applications read the old key." + r.because(most)
	case rotation.Completed:
		if r.Outcome == "" && r.New != nil {
			return r.done()
		}
		return sentence(prose(clip(r.Outcome, most)))
	}
	return ""
}

// because says why a rotation goes back.
func (r *rotator) because(most int) string {
	if r.Outcome == "" {
		return ""
	}
	return " Why: " + sentence(prose(clip(r.Outcome, most)))
}

// meanwhile says how applications fare while there is no new key.
func (r *rotator) meanwhile() string {
	switch {
	case r.Contained:
		return "The key that leaked is gone: applications fail until there is a new one."
	case r.Prepared.OldRefused:
		return "The key that applications read is refused: they fail until there is a new one."
	case len(r.Old) == 0:
		return "There is no key yet that applications could read."
	}
	if r.emergency() {
		return "Until there is one, what leaked stays live."
	}
	return "Applications go on with the old one meanwhile."
}

// done names what a completed rotation made and took away.
func (r *rotator) done() string {
	text := fmt.Sprintf("Done: applications read the new key, %s.", describe(*r.New))
	if n := len(r.Revoked); n > 3 {
		return text + fmt.Sprintf(" Keys revoked: %d.", n)
	} else if n > 0 {
		text += " Revoked: " + escape(r.called(r.Revoked)) + "."
	}
	return text
}

func (r *rotator) direction() string {
	if r.Reverse {
		return "old"
	}
	return "new"
}

func (r *rotator) otherDirection() string {
	if r.Reverse {
		return "new"
	}
	return "old"
}

func stamp(t time.Time) string { return t.UTC().Format(rotation.MinuteLayout) }

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

func code(text string) string { return "`" + text + "`" }

// escape takes the meaning out of markup in text that came from elsewhere.
var markup = strings.NewReplacer("<", "&lt;", ">", "&gt;", "[", "\\[", "]", "\\]", "`", "'", "*", "\\*", "\n", " ")

func escape(text string) string { return markup.Replace(text) }

// input is what a message takes, quoted in a sentence.
var input = regexp.MustCompile("\\{\"[^{}`<>\\n]*\\}")

// prose escapes a text of ours that may quote the input of a message. That becomes code: in plain text the UI sets
// typographic quotes, and what somebody copies would be no JSON.
func prose(text string) string {
	var b strings.Builder
	for at := input.FindStringIndex(text); at != nil; at = input.FindStringIndex(text) {
		b.WriteString(escape(text[:at[0]]) + code(text[at[0]:at[1]]))
		text = text[at[1]:]
	}
	return b.String() + escape(text)
}

// StaticSummary is the line that the Temporal UI shows above the details. The way to them is shown where a person looks
// first: in the summaries of timers.
func StaticSummary(in Input) string { return fmt.Sprintf("%s rotation of %s", in.Reason, in.Key.Name) }

// StaticDetails is what the Temporal UI shows about a rotation for as long as it is kept.
func StaticDetails(in Input) string {
	k := in.Key
	var places []string
	for _, l := range k.Stores {
		places = append(places, code(escape(l.String())))
	}
	text := fmt.Sprintf("Replaces the key **%s** of `%s` at %s, which applications read in %s.\n\nReason: %s.", escape(k.Name), escape(k.Account),
		escape(k.Provider), strings.Join(places, ", "), in.Reason)
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
