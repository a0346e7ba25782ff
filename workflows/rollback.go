package workflows

import (
	"slices"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// requestRollback asks for a roll-back that no person asked for.
func (r *runner) requestRollback(why string) {
	if r.Inbox.Rollback == nil {
		r.Inbox.Rollback = &rotation.Decision{Kind: rotation.RollBack, DecisionMessage: rotation.DecisionMessage{By: "rekey", Why: why}, At: r.now()}
		r.plan++
	}
}

// rollBackRequested carries out a request to roll back, where there is still a way back. It is asked between steps only.
func (r *runner) rollBackRequested() (rotation.State, bool) {
	request := r.Inbox.Rollback
	if request == nil {
		return rotation.State{}, false
	}
	r.Inbox.Rollback = nil
	r.active()
	if !r.At.Commitment.CanRollBack() {
		if !r.At.Commitment.Backwards() {
			r.Progress.Note = "There is no way back any more: the rotation goes on to its end. (" + request.Why + ")"
		}
		return rotation.State{}, false
	}
	r.Progress.Outcome = request.Why
	switch r.At.Commitment {
	case rotation.Looking:
		return r.nothingChanged(), true
	case rotation.Staged:
		return rotation.State{Step: rotation.StepDiscard, Commitment: rotation.Discarding}, true
	}
	return r.reverse(), true
}

// nothingChanged ends a rotation that has changed nothing. What the one before it in the same workflow had staged is
// discarded first: nobody else will.
func (r *runner) nothingChanged() rotation.State {
	if len(r.Carry.Predecessors) == 0 {
		return r.to(rotation.StepRolledBack)
	}
	r.Keys.New = nil
	return rotation.State{Step: rotation.StepDiscard, Commitment: rotation.Discarding}
}

// reverse begins a rotation in the other direction: the old key is proven and flipped back, both are kept for a grace
// period, then the new key is revoked.
func (r *runner) reverse() rotation.State {
	r.neverAskedFor()
	asked := r.Keys.RevokeAsked || slices.ContainsFunc(r.Direction.Early, func(d rotation.Decision) bool { return d.Kind == rotation.KeyRevoked })
	r.Direction = Direction{}
	if asked {
		r.Direction.MayBeRevoked = r.now()
	}
	next := rotation.State{Step: rotation.StepVerify, Commitment: rotation.Reversing}
	switch {
	case r.Keys.DisableAsked:
		next.Step = rotation.StepEnable
	case r.oldIsMissing():
		next.Step = rotation.StepStore
	}
	return next
}

// oldIsMissing reports whether a store never had the old value: it gets it first.
func (r *runner) oldIsMissing() bool { return slices.Contains(r.Keys.Old[0].Numbers, "") }

// enable undoes a disable, also one whose answer was lost. That one may take effect after this: verify waits until it no
// longer can, and comes back here if it has.
func (r *runner) enable() decision {
	out, f, ok := runStep[activities.Revoked](r, writeRetry(), "enable the old key again", activities.RevokeName,
		activities.RevokeInput{Target: r.target(), Keys: r.Keys.Old, Mode: activities.EnableKey})
	return func() rotation.State {
		// Once a person says that it is done by hand, verify decides.
		switch {
		case f != nil && r.Direction.Approved != notEnabled:
			return r.ask(notEnabled, "The old key cannot be enabled again: "+f.text+" Enable it by hand ("+r.Keys.Prepared.ProviderConsole+"), then approve to go on.", rotation.StepEnable)
		case !ok && f == nil:
			return r.stay()
		case slices.Contains(out.Gone, r.Keys.Old[0].Name()):
			r.Keys.DisableAsked = false
			return r.cannotReverse("The old key " + r.Keys.Old[0].Name() + " is gone at the provider.")
		}
		r.Direction.Enabled++
		if r.oldIsMissing() {
			return r.to(rotation.StepStore)
		}
		return r.to(rotation.StepVerify)
	}
}

// maxEnables is how often the old key is enabled on one way back.
const maxEnables = 3

// enableAgain reports whether a refusal of the old key on the way back may come from a disable of ours: then it is enabled
// once more.
func (r *runner) enableAgain() bool { return r.Keys.DisableAsked && r.Direction.Enabled < maxEnables }

// cannotReverse stops a roll-back whose old key cannot be proven, and asks: applications keep the new key meanwhile.
func (r *runner) cannotReverse(why string) rotation.State {
	r.neverAskedFor()
	r.Direction = Direction{PublishedAt: r.Progress.PublishedAt}
	r.Progress.Outcome = ""
	from := r.At
	r.At.Commitment = rotation.BothKeys // what is asked is about the way forward
	next := r.ask(noWayBack, "The roll-back cannot go on, and applications keep the new key: "+why+
		" Fix that to try again, or give up the old key.", rotation.StepVerify)
	r.At = from
	return next
}
