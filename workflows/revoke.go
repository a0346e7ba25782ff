package workflows

import (
	"fmt"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// revoking is the first step of the revoke.
func (r *runner) revoking() rotation.State {
	out := r.outgoing()
	byHand := r.Keys.Prepared.RevokeByHand || slices.ContainsFunc(out, func(o activities.Ref) bool { return o.KeyID == "" })
	switch {
	case len(out) == 0:
		return r.retiring()
	case byHand && r.Emergency.Contained:
		return r.to(rotation.StepConfirm)
	case byHand:
		return r.to(rotation.StepAwaitRevocation)
	case r.Keys.Prepared.CanDisable && r.in.Key.Policy.Soak > 0 && !r.emergency():
		if !r.backwards() {
			// Before it is asked for: its answer can be lost, and a roll-back must undo it all the same.
			r.Keys.DisableAsked = true
		}
		return r.to(rotation.StepDisable)
	}
	return r.deleting()
}

// deleting is delete, which cannot be undone.
func (r *runner) deleting() rotation.State {
	next := r.to(rotation.StepDelete)
	if !r.backwards() {
		r.Direction.Before, next.Commitment = r.At.Commitment, rotation.ForwardOnly
	}
	return next
}

// retiring is retire: what was to be revoked is.
func (r *runner) retiring() rotation.State {
	next := r.to(rotation.StepRetire)
	if !r.backwards() {
		next.Commitment = rotation.ForwardOnly
	}
	return next
}

// takeAway is the input that takes keys away.
func (r *runner) takeAway(mode activities.RevokeMode, keys ...activities.Ref) activities.RevokeInput {
	return activities.RevokeInput{Target: r.target(), Keys: keys, Keep: *r.incoming(), Mode: mode, Approval: r.Direction.SignedApproval, Emergency: r.raisedBy()}
}

// disable makes the provider refuse the outgoing keys, which can be undone.
func (r *runner) disable() decision {
	keys := r.outgoing()
	out, f, ok := runStep[activities.Revoked](r, writeRetry(), "disable the old key at the provider", activities.RevokeName, r.takeAway(activities.DisableKey, keys...))
	return func() rotation.State {
		switch {
		case f != nil:
			return r.refusedToTakeAway(f, rotation.StepDisable)
		case !ok:
			return r.stay()
		case r.emergency() || slices.Contains(out.Gone, keys[0].Name()):
			// The key that applications read before is gone, and cannot be enabled again. Another one that is gone is an older
			// duty, and no reason to take this one away for good.
			return r.deleting()
		}
		r.Direction.SoakUntil = r.now().Add(time.Duration(r.in.Key.Policy.Soak))
		return r.to(rotation.StepSoak)
	}
}

// soak waits for somebody who still needs the disabled keys.
func (r *runner) soak() decision {
	r.wait(waiting{summary: "the old key is disabled; it can still be enabled again", until: r.Direction.SoakUntil})
	return func() rotation.State {
		if r.emergency() || !r.now().Before(r.Direction.SoakUntil) {
			return r.deleting()
		}
		return r.stay()
	}
}

// delete takes the outgoing keys away for good, one after the other, the one that applications read before as the last:
// until that one is gone, a refusal leaves the way back open.
func (r *runner) delete() decision {
	left := slices.DeleteFunc(r.outgoing(), func(o activities.Ref) bool { return slices.Contains(r.Direction.Deleted, o.Name()) })
	if len(left) == 0 {
		return func() rotation.State { return r.to(rotation.StepConfirm) }
	}
	key := left[len(left)-1]
	_, f, ok := runStep[activities.Revoked](r, writeRetry(), "delete the old key at the provider", activities.RevokeName, r.takeAway(activities.DeleteKey, key))
	switch {
	case ok:
		r.Direction.Deleted = append(r.Direction.Deleted, key.Name())
	case f == nil || f.Unsettled || f.Retried:
		r.Direction.DeleteOpen = true
	}
	return func() rotation.State {
		switch {
		case f != nil:
			return r.refusedToTakeAway(f, rotation.StepDelete)
		case !ok || len(left) > 1:
			return r.stay()
		}
		return r.to(rotation.StepConfirm)
	}
}

// refusedToTakeAway asks a person about a definite refusal. Nothing was taken away by it, so what could be undone before
// can be undone still.
func (r *runner) refusedToTakeAway(f *failure, step rotation.Step) rotation.State {
	commitment := r.At.Commitment
	if step == rotation.StepDelete && !r.backwards() && !r.Direction.DeleteOpen && !r.emergency() {
		commitment = r.Direction.Before
	}
	if f.Code == activities.FourEyes {
		// An operator was removed, or four eyes were asked for after this rotation began: ask anew.
		r.Direction.SignedApproval, r.Direction.Approved, r.Approvals.Unsigned = nil, "", true
		r.Progress.Note = f.text
		return rotation.State{Step: rotation.StepGuard, Commitment: commitment}
	}
	next := r.ask(notRevoked, "The old key could not be revoked: "+f.text+" Fix that, then approve to try again.", step)
	next.Commitment = commitment
	return next
}

// awaitRevocation waits for a person to revoke the outgoing key. Its deadline makes it overdue; there is nothing else that
// rekey could do.
func (r *runner) awaitRevocation() decision {
	r.Keys.RevokeAsked = r.Keys.RevokeAsked || !r.backwards()
	return r.awaitRevoked(func() rotation.State { return r.to(rotation.StepConfirm) })
}

// awaitRevoked waits for a person to say that a key is revoked.
func (r *runner) awaitRevoked(then decision) decision {
	if r.Inbox.Claim == nil && !r.takeEarly(rotation.KeyRevoked) {
		r.waitForPerson()
	}
	return func() rotation.State {
		if r.Inbox.Claim == nil {
			return r.stay()
		}
		r.Inbox.Claim = nil
		return then()
	}
}

// confirm proves that the outgoing keys are refused.
func (r *runner) confirm() decision {
	out, f, ok := runStep[activities.Confirmed](r, readRetry(), "is the old key refused?", activities.ConfirmName, activities.ConfirmInput{Target: r.target(), Keys: r.outgoing(), New: r.incoming()})
	if ok && len(out.Accepted) == 0 {
		r.noteRevoked(out.Unproven)
	}
	return func() rotation.State {
		if ok && r.Poll.ExpectedUntil.IsZero() {
			// From the first answer on.
			r.Poll.ExpectedUntil = r.now().Add(time.Duration(r.Keys.Prepared.RevocationLag) + activities.LateCaches)
		}
		switch {
		case f != nil:
			return r.ask(notRevoked, "It could not be tested whether the old key is refused: "+f.text+" Approve to try again.", rotation.StepConfirm)
		case !ok:
			return r.stay()
		case out.NewRefused && r.Direction.Approved != newRefused:
			hint := "So is the key that was to be revoked: make the one that they read work again at the provider."
			if len(out.Accepted) > 0 {
				hint = "It still accepts " + r.listed(out.Accepted) + ", which was to be revoked: was the wrong key revoked? Then return to the other one at once, if that is offered below."
			}
			return r.ask(newRefused, "Applications fail now: the provider refuses the key that they read, "+asListed(*r.incoming())+". "+hint, rotation.StepConfirm)
		case len(out.Accepted) == 0:
			return r.retiring()
		case r.now().Before(r.Poll.ExpectedUntil):
			return r.pollAgain(pollInterval(r.Poll.Count), poll{
				why: "The provider still accepts " + r.listed(out.Accepted) + "; a revoke takes a moment.", summary: "ask the provider again", expected: r.Poll.ExpectedUntil,
			})
		}
		return r.notRevoked(r.listed(out.Accepted))
	}
}

// notRevoked goes back to whoever revokes.
func (r *runner) notRevoked(accepted string) rotation.State {
	r.Progress.Note = "The provider still accepts " + accepted + ": it was not revoked. Check whether another key was revoked instead."
	if r.Keys.Prepared.RevokeByHand {
		return r.to(rotation.StepAwaitRevocation)
	}
	next := rotation.StepConfirm
	if len(r.Direction.Deleted) > 0 {
		r.Direction.Deleted, next = nil, rotation.StepDelete
	}
	return r.ask(notRevoked, r.Progress.Note+" Revoke it at the provider, then approve to check again.", next)
}

// noteRevoked notes for the result that the outgoing keys are refused.
func (r *runner) noteRevoked(unproven []string) {
	for _, name := range unproven {
		r.followUp(fmt.Sprintf("It could not be tested whether %s is refused: its value is gone, and the provider has no list.", name))
	}
	r.Progress.RevokedAt = r.now()
	for _, o := range r.outgoing() {
		if !slices.Contains(r.Carry.Revoked, o.Name()) {
			r.Carry.Revoked = append(r.Carry.Revoked, o.Name())
		}
	}
	r.noteWithoutFourEyes()
}

// retire clears the stores and sweeps orphans.
func (r *runner) retire() decision {
	out, f, ok := runStep[activities.Retired](r, writeRetry(), "destroy old versions, clean up orphans", activities.RetireName, activities.RetireInput{
		Target: r.target(), Gone: r.outgoing(), Keep: r.incoming(), Predecessors: r.Carry.Predecessors,
	})
	r.noteSwept(out)
	return func() rotation.State {
		switch {
		case f != nil:
			return r.ask(notCleared, "The old versions could not be cleared: "+f.text+" Approve to try again.", rotation.StepRetire)
		case !ok:
			return r.stay()
		}
		if out.SweepIn > 0 {
			return r.waitOut(time.Duration(out.SweepIn), "An attempt to create a key was not answered; what it may leave is cleaned up when it can no longer take effect.")
		}
		if r.backwards() {
			return r.to(rotation.StepRolledBack)
		}
		return r.to(rotation.StepCompleted)
	}
}

// contain takes what leaked away before there is a new key. From here on the rotation only goes forward.
func (r *runner) contain() decision {
	if r.Keys.Prepared.RevokeByHand || slices.ContainsFunc(r.Keys.Old, func(o activities.Ref) bool { return o.KeyID == "" }) {
		return func() rotation.State { return r.to(rotation.StepAwaitContainment) }
	}
	mode := activities.DeleteKey
	if r.Keys.Prepared.CanDisable {
		mode = activities.DisableKey
	}
	_, f, ok := runStep[activities.Revoked](r, writeRetry(), string(mode)+" what leaked, before there is a new key", activities.RevokeName, activities.RevokeInput{
		Target: r.target(), Keys: r.Keys.Old, Mode: mode, Contain: true, Emergency: r.raisedBy(),
	})
	return func() rotation.State {
		switch {
		case f != nil && f.class == fault.NotFound:
			return r.contained() // gone is gone
		case f != nil:
			return r.ask(notRevoked, "What leaked could not be revoked first: "+f.text+" Fix that, then approve to try again.", rotation.StepContain)
		case !ok:
			return r.stay()
		}
		return r.contained()
	}
}

func (r *runner) awaitContainment() decision { return r.awaitRevoked(r.contained) }

// contained goes on to the new key.
func (r *runner) contained() rotation.State {
	r.Emergency.Contained = true
	return r.to(r.making())
}
