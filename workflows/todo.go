package workflows

import (
	"fmt"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// The inputs that the details propose: by is needed everywhere, why where a decision changes what would happen.
const (
	byInput  = `{"by": "you@example.com"}`
	whyInput = `{"by": "you@example.com", "why": "…"}`
	forInput = `{"by": "you@example.com", "why": "…", "for": "24h"}`
)

// update says where the Temporal UI takes a message; a refused Update leaves nothing in the history, a Signal does.
func update(kind rotation.DecisionKind, data string) string {
	return "**More Actions**, **Send an Update**: " + named(kind, data)
}

func named(kind rotation.DecisionKind, data string) string {
	return fmt.Sprintf("name %s, data %s.", code(string(kind)), code(data))
}

// accepts reports whether a message would be taken now; nothing else may be proposed.
func (r *runner) accepts(kind rotation.DecisionKind, m rotation.DecisionMessage) bool {
	m.By, m.Why = "you@example.com", "…"
	return r.decisionContext().Check(kind, m) == nil
}

// todo are the numbered steps for a person; none if nobody is waited for.
func (r *runner) todo(most int) []string {
	switch r.At.Step {
	case rotation.StepAwaitKey, rotation.StepAdopt:
		return r.makeKey()
	case rotation.StepApproval:
		return r.decide()
	case rotation.StepAwaitRevocation, rotation.StepAwaitContainment:
		return r.revokeKey()
	case rotation.StepCompleted, rotation.StepRolledBack:
		return r.leftovers(most)
	}
	return nil
}

// console is a link to where a person manages the keys.
func (r *runner) console() string {
	return link(r.in.Key.Provider+" console", r.Keys.Prepared.ProviderConsole)
}

func (r *runner) makeKey() []string {
	name, first := r.in.Key.Name, r.in.Key.Stores[0]
	steps := []string{fmt.Sprintf("Open the %s and make a new key of %s. A good name: %s.",
		r.console(), code(r.in.Key.Account), code(name+" "+r.Progress.StartedAt.UTC().Format("2006-01-02")))}
	if old := r.describe(r.Keys.Old); old != "" && !r.Emergency.Contained {
		steps[0] += " Leave the old one: " + old + "."
	}
	steps = append(steps,
		fmt.Sprintf("Run %s and paste the key there. That is all.", code("rekey supply "+name)),
		fmt.Sprintf("Without that command: put the key into %s (%s) as a new version that no application reads. Then %s rekey takes the newest version; to name another, add %s.",
			link(first.Store, r.Keys.Prepared.StoreConsole), code(first.Path), update(rotation.KeySupplied, byInput), code(`"version": "7"`)))
	return steps
}

func (r *runner) revokeKey() []string {
	open := fmt.Sprintf("Open the %s, keys of %s.", r.console(), code(r.in.Key.Account))
	revoked := "Then " + update(rotation.KeyRevoked, byInput) + " rekey checks that the key is refused."
	if r.At.Step == rotation.StepAwaitContainment {
		return []string{open, fmt.Sprintf("Revoke what leaked: %s.", r.describe(r.Keys.Old)), revoked, "Then make the new key at once: the next step asks for it."}
	}
	return []string{
		open,
		fmt.Sprintf("Leave the %s key, which applications read: %s.", r.direction(), r.describe([]activities.Ref{*r.incoming()})),
		fmt.Sprintf("Revoke the %s key: %s.", r.otherDirection(), r.describe(r.outgoing())),
		revoked,
	}
}

// decide are the answers to the present question.
func (r *runner) decide() []string {
	approve, reject := r.answers()
	input := strings.TrimSuffix(whyInput, "}") + fmt.Sprintf(`, "question": %q}`, r.question().ID)
	steps := []string{fmt.Sprintf("To %s: %s", approve, update(rotation.Approve, input))}
	if r.signs(rotation.Approve) {
		steps[0] = fmt.Sprintf("To %s: %s", approve, r.signBothWays("rekey approve "+r.in.Key.Name))
	}
	if r.accepts(rotation.Reject, rotation.DecisionMessage{}) {
		steps = append(steps, fmt.Sprintf("To %s: %s", reject, update(rotation.Reject, input)))
	}
	return steps
}

// answers say what an approval and a rejection of the present question do.
func (r *runner) answers() (approve, reject string) {
	back := "return to the old key instead (the new one is discarded)"
	if r.At.Commitment.Published() {
		back = "return to the old key instead (it is proven first; the new one is revoked after another grace period)"
	}
	switch r.question().Kind {
	case foreignClaim:
		return "take it over and go on", "leave it alone and end this rotation, with nothing changed for applications"
	case unprovenKeys:
		return "make another key (what is named above is left alone: see to it first)", "make none and end this rotation, with nothing changed for applications"
	case revokePolicy, useUnknown:
		return fmt.Sprintf("revoke the %s key (whoever still uses it fails)", r.otherDirection()), back
	case keyInUse:
		return fmt.Sprintf("revoke the %s key all the same (whoever still uses it fails)", r.otherDirection()), back
	case keysRefused:
		return "go on watching, once the key that applications read works again", back
	case newRefused:
		return "go on, once the key that applications read works again", back
	case noWayBack:
		return "give the old key up (rekey goes forward and revokes it)", "try the roll-back again, once that is put right"
	case changedCurrent:
		return "take the key named above away too, in the end", back
	case notRevoked, notCleared, notEnabled, notDiscarded, cannotGoOn:
		return "try again, once that is put right", back
	}
	return "go on", back
}

// alternatives are the messages that a person may send besides.
func (r *runner) alternatives() []string {
	var ways []string
	offer := func(kind rotation.DecisionKind, m rotation.DecisionMessage, what, data string) {
		if r.accepts(kind, m) {
			ways = append(ways, what+": "+named(kind, data))
		}
	}
	longer := rotation.DecisionMessage{For: rotation.Duration(24 * time.Hour)}
	switch r.At.Step {
	case rotation.StepGrace, rotation.StepRecheck, rotation.StepApproval:
		offer(rotation.ExtendGrace, longer, "keep both keys longer", forInput)
	}
	offer(rotation.ExtendDeadline, longer, "move the deadline", forInput)
	if r.signs(rotation.FinishGrace) && r.accepts(rotation.FinishGrace, rotation.DecisionMessage{}) {
		ways = append(ways, "end the grace period now: "+r.signBothWays(fmt.Sprintf("rekey finish-grace %s --why \"…\"", r.in.Key.Name)))
	} else {
		offer(rotation.FinishGrace, rotation.DecisionMessage{}, "end the grace period now", whyInput)
	}
	if r.At.Step == rotation.StepApproval {
		return ways // its reject says the same as a roll-back
	}
	if r.accepts(rotation.RollBack, rotation.DecisionMessage{}) {
		back := "return to the old key"
		if !r.At.Commitment.Published() {
			back = "stop here and stay with the old key"
		}
		ways = append(ways, back+": "+named(rotation.RollBack, whyInput)+" **Request Cancellation** does the same.")
	}
	return ways
}

// leftovers are what an ended rotation leaves to a person.
func (r *runner) leftovers(most int) []string {
	const listed = 5
	var steps []string
	for i, l := range r.Carry.FollowUps {
		if i == listed {
			return append(steps, fmt.Sprintf("And %d more: %s.", len(r.Carry.FollowUps)-listed, code("rekey status "+r.in.Key.Name)))
		}
		steps = append(steps, sentence(r.prose(clip(l, most))))
	}
	return steps
}

// deadlineText says what happens if nobody acts.
func (r *runner) deadlineText() string {
	when := moment(r.Wait.Deadline)
	if !r.now().Before(r.Wait.Deadline) {
		goes := "Nothing changes until somebody acts."
		if !r.At.Step.Phase().Waiting() {
			goes = "rekey goes on trying."
		}
		reminded := ""
		if len(r.Carry.Channels) > 0 {
			reminded = fmt.Sprintf("; reminded %d times", r.Wait.Reminders)
		}
		return fmt.Sprintf("**Overdue** since %s%s. %s", when, reminded, goes)
	}
	if r.rollsBackAtDeadline() {
		then := "the rotation rolls back to the old key"
		switch {
		case r.emergency():
			then = "the rotation rolls back, and what leaked stays live"
		case r.question().Kind == noWayBack && r.At.Step == rotation.StepApproval:
			then = "the roll-back is tried again"
		}
		return fmt.Sprintf("If nobody acts until %s, %s.", when, then)
	}
	still := "rekey goes on trying."
	switch {
	case r.At.Step.Phase() == rotation.AwaitingRevocation && r.emergency():
		still = "What leaked stays live."
	case r.At.Step.Phase() == rotation.AwaitingRevocation:
		still = "Both keys stay as they are."
	case r.At.Step.Phase().Waiting():
		still = "Nothing changes until somebody answers."
	}
	return fmt.Sprintf("If nobody acts until %s, this is shown as overdue. %s", when, still)
}

// describe names keys by what a person sees of them: the provider's id, or how its console lists them and since when
// the store has them.
func (r *runner) describe(refs []activities.Ref) string {
	const listed = 3
	var names []string
	for i, o := range refs {
		if i == listed {
			names = append(names, fmt.Sprintf("and %d more (%s has all)", len(refs)-listed, code("rekey status "+r.in.Key.Name+" --json")))
			break
		}
		names = append(names, describe(o))
	}
	return strings.Join(names, "; ")
}

// listed adds to the names of outgoing keys how the provider's console lists them.
func (r *runner) listed(names []string) string {
	var all []string
	for _, name := range names {
		for _, o := range r.outgoing() {
			if o.Name() == name {
				name = asListed(o)
				break
			}
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// asListed is the name of a key, and how the provider's console lists it, in plain text.
func asListed(o activities.Ref) string {
	if o.Shown == "" {
		return o.Name()
	}
	return o.Name() + " (" + o.Shown + ")"
}

func describe(o activities.Ref) string {
	if o.KeyID != "" {
		return code(o.KeyID)
	}
	text := "fingerprint " + code(o.Fingerprint)
	if o.Shown != "" {
		text = code(o.Shown) + ", " + text
	}
	if !o.AddedAt.IsZero() {
		text += ", in the store since " + moment(o.AddedAt)
	}
	return text
}
