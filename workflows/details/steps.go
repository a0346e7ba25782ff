package details

import (
	"fmt"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// The inputs that a page proposes: by is needed everywhere, why where a decision changes what would happen.
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
func (p Page) accepts(kind rotation.DecisionKind, m rotation.DecisionMessage) bool {
	m.By, m.Why = "you@example.com", "…"
	return p.Context.Check(kind, m) == nil
}

// steps are the numbered steps for a person; none if nobody is waited for.
func (p Page) steps(most int) []string {
	switch p.step() {
	case rotation.StepAwaitKey, rotation.StepAdopt:
		return p.makeKey()
	case rotation.StepApproval:
		return p.decide()
	case rotation.StepAwaitRevocation, rotation.StepAwaitContainment:
		return p.revokeKey()
	case rotation.StepCompleted, rotation.StepRolledBack:
		return p.followUps(most)
	}
	return nil
}

func (p Page) makeKey() []string {
	open := fmt.Sprintf("Open the %s and create a new key of %s. Suggested name: %s.",
		p.console(), code(p.Account), code(p.Key+" "+p.StartedAt.UTC().Format(time.DateOnly)))
	if old := p.describe(p.Old); old != "" && !p.Contained {
		open += " Keep the old one: " + old + "."
	}
	return []string{
		open,
		fmt.Sprintf("Run %s and paste the key there. That is all.", code("rekey supply "+p.Key)),
		fmt.Sprintf("Without that command: put the key into %s (%s) as a new version that no application reads. Then %s rekey takes the newest version; to name another, add %s.",
			link(p.First.Store, p.StoreConsole), code(p.First.Path), update(rotation.KeySupplied, byInput), code(`"version": "7"`)),
	}
}

func (p Page) revokeKey() []string {
	open := fmt.Sprintf("Open the %s and find the keys of %s.", p.console(), code(p.Account))
	revoked := "Then " + update(rotation.KeyRevoked, byInput) + " rekey checks that the key is refused."
	if p.step() == rotation.StepAwaitContainment {
		return []string{open, fmt.Sprintf("Revoke what leaked: %s.", p.describe(p.Old)), revoked, "Then create the new key at once: the next step asks for it."}
	}
	return []string{
		open,
		fmt.Sprintf("Keep the %s key, which applications read: %s.", p.incoming(), describe(*p.Incoming)),
		fmt.Sprintf("Revoke the %s key: %s.", p.outgoing(), p.describe(p.Outgoing)),
		revoked,
	}
}

// decide are the answers to the present question.
func (p Page) decide() []string {
	input := strings.TrimSuffix(whyInput, "}") + fmt.Sprintf(`, "question": %q}`, p.Question.ID)
	approve := update(rotation.Approve, input)
	if p.FourEyes {
		approve = p.signatures("rekey approve " + p.Key)
	}
	steps := []string{fmt.Sprintf("To %s: %s", p.Question.Approve, approve)}
	if p.accepts(rotation.Reject, rotation.DecisionMessage{}) {
		steps = append(steps, fmt.Sprintf("To %s: %s", p.Question.Reject, update(rotation.Reject, input)))
	}
	return steps
}

// signatures says how two operators take a decision.
func (p Page) signatures(command string) string {
	signed := "nobody yet"
	if n := len(p.Signed); n > 0 {
		signed = fmt.Sprintf("%d of %d: %s", n, rotation.Eyes, Escape(strings.Join(p.Signed, ", ")))
	}
	return fmt.Sprintf("two different operators run %s, which signs with their SSH keys. Signed: %s. This page cannot sign: an update from here is refused.", code(command), signed)
}

// alternatives are the messages that a person may send besides.
func (p Page) alternatives() []string {
	var ways []string
	offer := func(kind rotation.DecisionKind, m rotation.DecisionMessage, what, data string) {
		if p.accepts(kind, m) {
			ways = append(ways, what+": "+named(kind, data))
		}
	}
	longer := rotation.DecisionMessage{For: rotation.Duration(24 * time.Hour)}
	switch p.step() {
	case rotation.StepGrace, rotation.StepRecheck, rotation.StepApproval:
		offer(rotation.ExtendGrace, longer, "keep both keys longer", forInput)
	}
	offer(rotation.ExtendDeadline, longer, "move the deadline", forInput)
	if p.FourEyes && p.accepts(rotation.FinishGrace, rotation.DecisionMessage{}) {
		ways = append(ways, "end the grace period now: "+p.signatures(fmt.Sprintf("rekey finish-grace %s --why \"…\"", p.Key)))
	} else {
		offer(rotation.FinishGrace, rotation.DecisionMessage{}, "end the grace period now", whyInput)
	}
	if p.step() == rotation.StepApproval {
		return ways // its reject says the same as a roll-back
	}
	if p.accepts(rotation.RollBack, rotation.DecisionMessage{}) {
		back := "return to the old key"
		if !p.Context.Commitment.Published() {
			back = "stop here and stay with the old key"
		}
		ways = append(ways, back+": "+named(rotation.RollBack, whyInput)+" **Request Cancellation** does the same.")
	}
	return ways
}

// followUps are what an ended rotation leaves to a person.
func (p Page) followUps(most int) []string {
	const listed = 5
	var steps []string
	for i, f := range p.FollowUps {
		if i == listed {
			return append(steps, fmt.Sprintf("And %d more: %s.", len(p.FollowUps)-listed, code("rekey status "+p.Key)))
		}
		steps = append(steps, p.quote(f, most))
	}
	return steps
}

// deadline says what happens if nobody acts.
func (p Page) deadline() string {
	when := Moment(p.Context.Deadline)
	if !p.Context.Now.Before(p.Context.Deadline) {
		goes := "Nothing changes until somebody acts."
		if !p.waiting() {
			goes = "rekey keeps trying."
		}
		reminded := ""
		if p.Notifies {
			reminded = fmt.Sprintf("; reminded %d times", p.Reminders)
		}
		return fmt.Sprintf("**Overdue** since %s%s. %s", when, reminded, goes)
	}
	if p.AtDeadline != Overdue {
		then := "the rotation rolls back to the old key"
		switch {
		case p.emergency():
			then = "the rotation rolls back, and what leaked stays live"
		case p.AtDeadline == TriesRollBack:
			then = "the roll-back is tried again"
		}
		return fmt.Sprintf("If nobody acts by %s, %s.", when, then)
	}
	still := "rekey keeps trying."
	switch {
	case p.step().Phase() == rotation.AwaitingRevocation && p.emergency():
		still = "What leaked stays live."
	case p.step().Phase() == rotation.AwaitingRevocation:
		still = "Both keys stay as they are."
	case p.waiting():
		still = "Nothing changes until somebody answers."
	}
	return fmt.Sprintf("If nobody acts by %s, this is shown as overdue. %s", when, still)
}

// describe names keys by what a person sees of them.
func (p Page) describe(keys []Key) string {
	const listed = 3
	var names []string
	for i, k := range keys {
		if i == listed {
			names = append(names, fmt.Sprintf("and %d more (%s has all)", len(keys)-listed, code("rekey status "+p.Key+" --json")))
			break
		}
		names = append(names, describe(k))
	}
	return strings.Join(names, "; ")
}

// describe is the provider's id of a key, or how its console lists the key and since when the store has it.
func describe(k Key) string {
	if k.ID != "" {
		return code(k.ID)
	}
	text := "fingerprint " + code(k.Fingerprint)
	if k.Shown != "" {
		text = code(k.Shown) + ", " + text
	}
	if !k.AddedAt.IsZero() {
		text += ", in the store since " + Moment(k.AddedAt)
	}
	return text
}
