package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
)

// descriptions say in the Temporal UI what a message does and what to send.
var descriptions = map[rotation.DecisionKind]string{
	rotation.Approve:        `In awaiting-approval: answers yes to the question in the details. Input: {"by": "you@example.com", "why": "…"}; with "question": "…", its id, no other question is answered by mistake`,
	rotation.Reject:         `In awaiting-approval: answers no, and returns to the old key. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.KeySupplied:    `In awaiting-key: says that the new key is in the first store, as a version that no application reads; rekey checks it. Never put a key here! Input: {"by": "you@example.com", "version": "7"}; without a version the newest is taken.`,
	rotation.KeyRevoked:     `In awaiting-revocation: says that the key to revoke is revoked at the provider; rekey checks it. Input: {"by": "you@example.com"}`,
	rotation.ExtendGrace:    `In the grace period, and where a question is about it: keeps both keys longer. Input: {"by": "you@example.com", "why": "…", "for": "12h"}`,
	rotation.FinishGrace:    `In the grace period: ends it now. Whoever still uses the old key fails soon. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.RollBack:       `At any time until a key is gone for good: returns to the old key. Request Cancellation does the same. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.RaiseEmergency: `At any time: says that values have leaked, all that were made before now. No grace period, no guard, no way back. Input: {"by": "you@example.com", "why": "…"}; to name what leaked, by fingerprint or version: {"by": "you@example.com", "why": "…", "leaked": ["0123456789ab"]}`,
	rotation.ExtendDeadline: `While a person is waited for: moves the deadline, and with it reminders and escalation. Input: {"by": "you@example.com", "why": "…", "for": "2d"}`,
	rotation.AddNote:        `At any time: leaves a note for whoever comes next; it decides nothing. Input: {"by": "you@example.com", "why": "what you know"}`,
}

// Inbox is what people have sent and the rotation has not done yet.
type Inbox struct {
	// Rollback is a request to roll back.
	Rollback *rotation.Decision `json:"rollback,omitempty"`
	// Claim is what a person says and still has to be checked: a supplied version, a revocation. Adopting is the supplied
	// version that is being checked.
	Claim    *rotation.Decision `json:"claim,omitempty"`
	Adopting *rotation.Decision `json:"adopting,omitempty"`
	// Successors are emergencies that need a rotation of their own. Again: another rotation follows, to make a new key, at
	// once if this one has changed nothing.
	Successors []rotation.Decision `json:"successors,omitempty"`
	Again      bool                `json:"again,omitempty"`
}

// listen registers every handler before the first wait. Updates and signals reach the same apply; a cancel is a request
// to roll back.
func (r *runner) listen() {
	var sent []workflow.ReceiveChannel
	for _, kind := range rotation.DecisionKinds() {
		// Registration fails only for a handler of the wrong shape.
		_ = workflow.SetUpdateHandlerWithOptions(r.ctx, string(kind),
			func(_ workflow.Context, raw converter.RawValue) (rotation.Status, error) {
				m, err := readUpdate(kind, raw)
				if err == nil {
					r.apply(kind, m)
				}
				return r.status(), err
			},
			workflow.UpdateHandlerOptions{
				Description: descriptions[kind],
				// As it was sent: fields that a message does not have count, too.
				Validator: func(_ workflow.Context, raw converter.RawValue) error { return r.validateUpdate(kind, raw) },
			})
		sent = append(sent, r.signals(kind))
	}
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		// Not a blocked Receive: it would hold a signal where takeMessages cannot see it. One for all kinds: each costs every task.
		waiting := func(c workflow.ReceiveChannel) bool { return c.Len() > 0 }
		for workflow.Await(ctx, func() bool { return slices.ContainsFunc(sent, waiting) || len(unknownSignals(ctx)) > 0 }) == nil {
			r.takeMessages()
		}
	})
	_ = workflow.SetQueryHandlerWithOptions(r.ctx, StatusQuery, func() (rotation.Status, error) { return r.status(), nil },
		workflow.QueryHandlerOptions{Description: "Where the rotation stands, what it waits for, and which decisions it would take."})
	workflow.Go(r.root, func(ctx workflow.Context) {
		ctx.Done().Receive(ctx, nil)
		r.handleCancel()
	})
}

// handleCancel takes a cancel as a request to roll back, once.
func (r *runner) handleCancel() {
	if r.root.Err() == nil || r.cancelled {
		return
	}
	r.cancelled = true
	if !r.At.Commitment.CanRollBack() {
		r.Progress.Note = "Somebody cancelled the workflow; there is no way back any more, so it goes on to its end."
		r.refreshDetails()
		return
	}
	r.apply(rotation.RollBack, rotation.DecisionMessage{By: "cancel request", Why: "The workflow was cancelled."})
}

func (r *runner) signals(kind rotation.DecisionKind) workflow.ReceiveChannel {
	return workflow.GetSignalChannelWithOptions(r.ctx, string(kind), workflow.SignalChannelOptions{Description: descriptions[kind]})
}

// check refuses a decision before it enters the history.
func (r *runner) check(kind rotation.DecisionKind, m rotation.DecisionMessage) error {
	if r.isDuplicate(kind, m) {
		return nil
	}
	if err := r.decisionContext().Check(kind, m); err != nil {
		return err
	}
	_, err := r.signer(kind, m)
	return err
}

// isDuplicate reports whether the decision was taken before.
func (r *runner) isDuplicate(kind rotation.DecisionKind, m rotation.DecisionMessage) bool {
	taken := r.Carry.Decisions
	if r.signs(kind) && r.Approvals.Signing != nil {
		taken = r.Approvals.Signed // what was signed for another question does not answer this one
	}
	return m.ID != "" && slices.ContainsFunc(taken, func(d rotation.Decision) bool { return d.ID == m.ID && d.Kind == kind })
}

// apply carries out a decision that check has let through, as far as that takes no time: the rest is the rotation's next
// step.
func (r *runner) apply(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	if r.isDuplicate(kind, m) {
		return
	}
	signer, err := r.signer(kind, m)
	if err != nil {
		return // check has refused it
	}
	d := rotation.Decision{Kind: kind, DecisionMessage: m.Bounded(), At: r.now(), Signer: signer}
	c := r.decisionContext()
	r.keepDecision(d)
	r.Progress.Note = ""
	if kind != rotation.AddNote {
		// Whatever rests on less is decided anew, at once: what must be waited out, activities know themselves.
		r.plan++
		r.Poll.At = time.Time{}
	}
	defer r.refreshDetails()
	if signer != nil {
		r.Approvals.Signed, r.Approvals.Reverify = append(r.Approvals.Signed, d), true
		return
	}
	switch kind {
	case rotation.Approve:
		r.approved()
	case rotation.Reject, rotation.RollBack:
		d.Why = fmt.Sprintf("%s (%s)", d.Why, d.By)
		r.Inbox.Rollback = &d
	case rotation.KeySupplied, rotation.KeyRevoked:
		if r.Inbox.Claim != nil {
			r.supplanted(r.Inbox.Claim.Version, d.Version)
		}
		r.Inbox.Claim = &d
	case rotation.ExtendGrace:
		r.Direction.GraceUntil = c.Extended(m.For)
		if r.At.Step == rotation.StepApproval {
			r.withdraw(rotation.StepGrace)
		} else {
			r.askToFinish() // whoever signed for a shorter one has not agreed to this
		}
	case rotation.RaiseEmergency:
		r.raise(d)
	case rotation.ExtendDeadline:
		r.extendDeadline(c.ExtendedDeadline(m.For))
	case rotation.AddNote:
		r.Carry.Note = &d
	case rotation.FinishGrace:
		r.finishGrace()
	}
}

// maxDecisions is how many bytes the decisions may have that a rotation remembers. The state, the memo and the result must
// stay far below what Temporal takes (2 MB), or it ends the workflow where it stands.
const maxDecisions = 200_000

// keepDecision remembers a decision, and forgets the oldest ones where there are too many; the history keeps them all. Notes
// go first, and emergencies last: whoever raised one asks for it by its id.
func (r *runner) keepDecision(d rotation.Decision) {
	size := func(d rotation.Decision) int {
		return 200 + len(d.ID) + len(d.By) + len(d.Why) + len(d.Signature) + len(strings.Join(d.Leaked, "___"))
	}
	all, total := append(slices.Clone(r.Carry.Decisions), d), 0
	for _, one := range all {
		total += size(one)
	}
	for total > maxDecisions {
		earlier := all[:len(all)-1]
		i := slices.IndexFunc(earlier, func(d rotation.Decision) bool { return d.Kind == rotation.AddNote })
		if i < 0 {
			i = max(0, slices.IndexFunc(earlier, func(d rotation.Decision) bool { return d.Kind != rotation.RaiseEmergency && d.Signer == nil }))
		}
		total -= size(all[i])
		all = slices.Delete(all, i, i+1)
	}
	r.Carry.Decisions = all
}

// finishGrace ends the grace period, but not before the last reader can see the new value.
func (r *runner) finishGrace() {
	r.Direction.GraceUntil = latest(r.now(), r.Direction.PublishedAt)
}

// takeMessages takes the signals, and the cancel, that have come but were not handled yet. An activity that ends, or a timer that
// fires, together with a signal wakes the rotation first; the signal may have been sent before.
func (r *runner) takeMessages() {
	r.handleCancel()
	for _, kind := range rotation.DecisionKinds() {
		for {
			var raw converter.RawValue
			if !r.signals(kind).ReceiveAsync(&raw) {
				break
			}
			r.handleSignal(kind, raw.Payload())
		}
	}
	r.takeUnknownSignals()
}

// decisionContext is what decisions are judged by.
func (r *runner) decisionContext() rotation.DecisionContext {
	d := r.Direction
	s := rotation.DecisionContext{State: r.At, Now: r.now(), Question: r.question().ID, GraceUntil: d.GraceUntil, Deadline: r.Wait.Deadline}
	if !s.Deadline.IsZero() {
		s.WaitCap = r.Wait.Began.Add(rotation.WaitCap * time.Duration(r.in.Key.Policy.Patience))
	}
	if !d.PublishedAt.IsZero() {
		next := r.question().Next
		s.Extendable = next == rotation.StepGuard || next == rotation.StepGrace
		s.GraceCap = d.PublishedAt.Add(time.Duration(r.in.Key.Policy.MaxGrace))
	}
	return s
}
