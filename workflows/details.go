package workflows

import (
	"fmt"
	"regexp"
	"slices"
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
// what happens if nobody does. Plain Markdown, no secrets.
func (r *rotator) details() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** · %s", escape(r.in.Key.Name), r.phase())
	if r.phase() != r.Step {
		fmt.Fprintf(&b, " (%s)", r.Step)
	}
	fmt.Fprintf(&b, " · %s · rotation %s\n\n%s\n", r.in.Reason, r.id, r.happening())
	if r.Note != "" {
		fmt.Fprintf(&b, "\n**Note:** %s\n", prose(r.Note))
	}
	if r.Stall != "" {
		fmt.Fprintf(&b, "\n**Not getting on:** %s\n", escape(r.Stall))
		if !r.Deadline.IsZero() && !r.Step.Waiting() {
			fmt.Fprintf(&b, "\n%s\n", r.otherwise())
		}
	}
	if steps := r.todo(); len(steps) > 0 {
		b.WriteString("\n**What you do now**\n\n")
		for i, s := range steps {
			fmt.Fprintf(&b, "%d. %s\n", i+1, s)
		}
		if !r.Deadline.IsZero() {
			fmt.Fprintf(&b, "\n%s\n", r.otherwise())
		}
	} else if !r.Step.Closed() {
		if r.Stall != "" {
			b.WriteString("\nrekey tries again by itself; see to what stands above if it lasts.")
		} else {
			b.WriteString("\nYou need to do nothing.")
		}
		if !r.Irreversible && r.phase() != rotation.RollingBack {
			b.WriteString(" To return to the old key, send the update `roll-back`.")
		}
		b.WriteString("\n")
	}
	text := b.String()
	if len(text) > maxDetails {
		text = strings.ToValidUTF8(text[:maxDetails], "") + " …"
	}
	return text
}

// happening says what the present step is about.
func (r *rotator) happening() string {
	k := r.in.Key
	provider := escape(k.Provider)
	switch r.Step {
	case rotation.Prepare:
		return "Looking before anything changes: is the key due, does every store answer, is there room for a new key."
	case rotation.Create:
		return "Making a new key at " + provider + " and staging it where no application reads it."
	case rotation.AwaitingKey:
		return fmt.Sprintf("%s has no API to make keys: a person makes the new one for `%s`.", provider, escape(k.Account))
	case rotation.Store:
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
		return fmt.Sprintf("Both keys work until %s, so that every application can pick up the %s one.", stamp(r.GraceUntil), r.direction())
	case rotation.Guard:
		return "Asking whether the key to revoke is still in use."
	case rotation.AwaitingApproval:
		return "A person decides: " + escape(r.Question)
	case rotation.Revoke:
		if r.ContainThen != "" {
			return "Taking away what leaked, before there is a new key. Applications fail until there is."
		}
		if !r.SoakUntil.IsZero() {
			return fmt.Sprintf("The old key is disabled and will be deleted at %s. Until then it can be enabled again.", stamp(r.SoakUntil))
		}
		return "Revoking the key that is no longer needed."
	case rotation.AwaitingRevocation:
		if r.ContainThen != "" {
			return fmt.Sprintf("The key %s has leaked and is to go first. %s has no API to revoke: a person does. Applications fail from then on until there is a new key.", r.names(), provider)
		}
		return fmt.Sprintf("Applications read the %s key. %s has no API to revoke: a person revokes %s.", r.direction(), provider, r.names())
	case rotation.Confirm:
		return "Proving that the revoked key is refused."
	case rotation.Retire:
		return "Destroying the old versions in the stores and sweeping what abandoned attempts left."
	case rotation.RollingBack:
		return "Discarding the new key; applications were never given it. Why: " + escape(r.Outcome)
	case rotation.RolledBack:
		return "Rolled back; applications read the old key. Why: " + escape(r.Outcome)
	case rotation.Completed:
		if r.Outcome == "" && r.New != nil {
			return fmt.Sprintf("Done: applications read the new key `%s`. Keys revoked: %d.", r.New.Fingerprint, len(r.Revoked))
		}
		return escape(r.Outcome)
	}
	return ""
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

func (r *rotator) names() string {
	var names []string
	for _, o := range r.outgoing() {
		names = append(names, "`"+o.Name()+"`")
	}
	return strings.Join(names, ", ")
}

// todo are the numbered steps for a person; none if nobody is waited for.
func (r *rotator) todo() []string {
	name := r.in.Key.Name
	switch r.Step {
	case rotation.AwaitingKey:
		return []string{
			fmt.Sprintf("Create a new key for `%s`: [%s console](%s)", escape(r.in.Key.Account), escape(r.in.Key.Provider), r.Prepared.ProviderConsole),
			fmt.Sprintf("Run `starter supply %s` and paste it there. Never paste a key into this page.", name),
			"Or put it into the store yourself, as a version that no application reads. Then " + update(rotation.KeySupplied, `{"by": "you@example.com"}`) + " rekey takes the newest version; to name another, add " + code(`"version": "7"`) + ".",
		}
	case rotation.AwaitingApproval:
		steps := []string{"To go on: " + update(rotation.Approve, `{"by": "you@example.com", "why": "…"}`)}
		if slices.Contains(r.situation().Accepts(), rotation.Reject) {
			steps = append(steps, "To return to the old key: the same with the name `reject`.")
		}
		return steps
	case rotation.AwaitingRevocation:
		revoked := "Then " + update(rotation.KeyRevoked, `{"by": "you@example.com"}`) + " rekey checks that the key is refused."
		if r.ContainThen != "" {
			return []string{
				fmt.Sprintf("Revoke the key of `%s` (%s): [%s console](%s).", escape(r.in.Key.Account), r.names(), escape(r.in.Key.Provider), r.Prepared.ProviderConsole),
				revoked,
				"Then make the new key at once: the next step asks for it.",
			}
		}
		return []string{
			fmt.Sprintf("Applications read the %s key (fingerprint `%s`): leave that one.", r.direction(), r.incoming().Fingerprint),
			fmt.Sprintf("Revoke the %s key of `%s` (%s): [%s console](%s).", r.otherDirection(), escape(r.in.Key.Account), r.names(), escape(r.in.Key.Provider), r.Prepared.ProviderConsole),
			revoked,
		}
	}
	return nil
}

// otherwise says what happens if nobody acts.
func (r *rotator) otherwise() string {
	when := stamp(r.Deadline)
	switch {
	case !r.now().Before(r.Deadline):
		return fmt.Sprintf("**Overdue** since %s; reminded %d times.", when, r.Reminders)
	case r.Step == rotation.AwaitingKey && !r.Irreversible, r.Step == rotation.AwaitingApproval && r.rollsBackAtDeadline():
		return fmt.Sprintf("If nobody acts until %s, the rotation rolls back to the old key.", when)
	default:
		return fmt.Sprintf("If nobody acts until %s, this is shown as overdue. Both keys stay as they are.", when)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// update says where the Temporal UI takes a message; a refused Update leaves nothing in the history, a Signal does.
func update(kind rotation.Kind, data string) string {
	return fmt.Sprintf("**More Actions**, **Send an Update**: name `%s`, data %s.", kind, code(data))
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

// StaticSummary is the line that the Temporal UI shows in its list.
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
		text += " Asked by " + escape(in.By) + "."
	}
	if in.Why != "" {
		text += " Why: " + escape(in.Why)
	}
	return text + fmt.Sprintf("\n\nGrace period %s. Messages that it takes are listed under *Send an update*.", k.Policy.Grace)
}
