package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

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

// check makes a decision of a message; a *rotation.RejectedDecision says why there is none. It is nil without an error if
// the decision was taken before.
func (r *runner) check(kind rotation.DecisionKind, m rotation.DecisionMessage) (*rotation.Decision, error) {
	if r.isDuplicate(kind, m) {
		return nil, nil
	}
	if err := r.decisionContext().Check(kind, m); err != nil {
		return nil, err
	}
	return r.signedDecision(kind, m)
}

// accept applies a message that was checked before, or that nobody sent.
func (r *runner) accept(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	if r.isDuplicate(kind, m) {
		return
	}
	if d, err := r.signedDecision(kind, m); err == nil {
		r.apply(d)
	}
}

// signedDecision is a decision with its signer, if it has to be signed.
func (r *runner) signedDecision(kind rotation.DecisionKind, m rotation.DecisionMessage) (*rotation.Decision, error) {
	signer, err := r.signer(kind, m)
	if err != nil {
		return nil, err
	}
	return &rotation.Decision{Kind: kind, DecisionMessage: m.Bounded(), At: r.now(), Signer: signer}, nil
}

// isDuplicate reports whether the decision was taken before.
func (r *runner) isDuplicate(kind rotation.DecisionKind, m rotation.DecisionMessage) bool {
	taken := r.Carry.Decisions
	if r.signs(kind) && r.Approvals.Signing != nil {
		taken = r.Approvals.Signed // what was signed for another question does not answer this one
	}
	return m.ID != "" && slices.ContainsFunc(taken, func(d rotation.Decision) bool { return d.ID == m.ID && d.Kind == kind })
}

// isSettled reports whether a decision with the same words was taken already.
func (r *runner) isSettled(kind rotation.DecisionKind, m rotation.DecisionMessage) bool {
	return slices.ContainsFunc(r.Carry.Decisions, func(d rotation.Decision) bool {
		return d.Kind == kind && d.By == m.By && d.Why == m.Why && d.Version == m.Version && d.For == m.For && d.Signature == m.Signature &&
			d.Question == m.Question && d.Fingerprint == m.Fingerprint &&
			d.RevokeFirst == m.RevokeFirst && slices.Equal(d.Leaked, m.Leaked)
	})
}

// apply carries out a decision, as far as that takes no time: the rest is the rotation's next step. None is one that was
// taken before.
func (r *runner) apply(made *rotation.Decision) {
	if made == nil {
		return
	}
	d := *made
	c := r.decisionContext()
	r.keepDecision(d)
	r.Progress.Note = ""
	if d.Kind != rotation.AddNote {
		// Whatever rests on less is decided anew, at once: what must be waited out, activities know themselves.
		r.plan++
		r.Poll.At = time.Time{}
	}
	defer r.refreshDetails()
	if d.Signer != nil {
		r.Approvals.Signed, r.Approvals.Reverify = append(r.Approvals.Signed, d), true
		return
	}
	switch d.Kind {
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
		r.Direction.GraceUntil = c.Extended(d.For)
		if r.At.Step == rotation.StepApproval {
			r.withdraw(rotation.StepGrace)
		} else {
			r.askToFinish() // whoever signed for a shorter one has not agreed to this
		}
	case rotation.RaiseEmergency:
		r.raise(d)
	case rotation.ExtendDeadline:
		r.extendDeadline(c.ExtendedDeadline(d.For))
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
