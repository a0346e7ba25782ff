package workflows

import (
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// begin takes the emergencies that a rotation is started with.
func (r *rotator) begin() {
	r.Left = r.in.Left
	if !r.emergency() {
		return
	}
	r.Leaks = slices.Clone(r.in.Emergencies)
	if len(r.Leaks) == 0 {
		r.Leaks = []rotation.Decision{{Message: rotation.Message{By: r.in.By, Why: r.in.Why}}}
	}
	for i := range r.Leaks {
		r.Leaks[i].Kind, r.Leaks[i].Signer = rotation.RaiseEmergency, nil // nobody signs an emergency
		if r.Leaks[i].At.IsZero() {
			r.Leaks[i].At = r.StartedAt
		}
	}
	r.Decisions = slices.Clone(r.in.Decided)
	if r.in.Round == 0 {
		r.Decisions = slices.Clone(r.Leaks)
	}
}

// raise takes an emergency into a rotation that is under way. Where this rotation cannot serve it, because its own new
// key is among what leaked, or because it is on its way back to a key that leaked, it stops at the next step that is
// done and another one follows at once: every key that must go stands in the stores' records.
func (r *rotator) raise(d rotation.Decision) {
	if r.mustFollow(d) {
		r.Follow = append(r.Follow, d)
		r.Note = "An emergency was raised by " + d.By + ": this rotation stops here, and one that replaces everything that leaked follows at once."
	} else {
		r.Leaks = append(r.Leaks, d)
		r.hurry()
	}
	r.upsert(ReasonAttribute.ValueSet(string(rotation.Emergency)))
}

// hurry makes this rotation an emergency: no grace and guard beyond what the emergency allows, and no way back to a key
// that leaked.
func (r *rotator) hurry() {
	r.in.Reason, r.Wish = rotation.Emergency, nil
	if r.Step == rotation.Prepare {
		return
	}
	if r.Promoting {
		r.Irreversible = true
	}
	if !r.PublishedAt.IsZero() {
		r.GraceUntil = minTime(r.GraceUntil, maxTime(r.now(), r.PublishedAt.Add(r.allowance())))
	}
	if r.Step == rotation.AwaitingApproval && slices.Contains(approvals, r.About) {
		// It was asked because somebody might still use the old key.
		r.Question = ""
	}
}

// mustFollow tells whether an emergency needs a rotation of its own.
func (r *rotator) mustFollow(d rotation.Decision) bool {
	if r.Step == rotation.Prepare {
		return false // nothing was decided yet
	}
	if r.Reverse || r.Step == rotation.RollingBack || r.Step.Closed() || len(d.Leaked) == 0 || d.RevokeFirst && r.PublishedAt.IsZero() {
		return true
	}
	for _, name := range d.Leaked {
		if !slices.ContainsFunc(r.Old, func(o activities.Ref) bool { return o.Called(name, r.in.Key.Stores) }) {
			return true
		}
	}
	return false
}

// stops tells whether the rotation leaves the rest to the one that follows.
func (r *rotator) stops() bool { return len(r.Follow) > 0 }

// follow ends this rotation and begins the one that serves the emergencies it could not.
func (r *rotator) follow() (rotation.Result, error) {
	_ = workflow.Await(r.ctx, func() bool { return workflow.AllHandlersFinished(r.ctx) })
	r.drain()
	r.noDeadline()
	in := Input{Key: r.in.Key, Reason: rotation.Emergency, By: r.Follow[0].By, Why: r.Follow[0].Why, Round: r.in.Round + 1, Left: r.Left, Decided: r.Decisions, Lines: r.Lines}
	if r.Step != rotation.Completed {
		in.Emergencies = slices.Clone(r.Leaks)
	}
	in.Emergencies = append(in.Emergencies, r.Follow...)
	if r.New != nil && !r.Minted && r.PublishedAt.IsZero() && !r.Reverse {
		in.Left = append(slices.Clone(in.Left), "The supplied key "+r.New.Name()+" is not used: it was made before the emergency. Delete it: "+r.Prepared.ProviderConsole)
	}
	return rotation.Result{}, workflow.NewContinueAsNewError(r.ctx, RotateKey, in)
}

// allowance is how long the emergencies let a leaked key work beside the new one: the shortest that anybody asked for.
func (r *rotator) allowance() time.Duration {
	var d time.Duration
	for i, l := range r.Leaks {
		if i == 0 || time.Duration(l.For) < d {
			d = time.Duration(l.For)
		}
	}
	return d
}

// named are the values that the emergencies name; none means every value.
func (r *rotator) named() []string {
	var names []string
	for _, l := range r.Leaks {
		if len(l.Leaked) == 0 {
			return nil
		}
		names = append(names, l.Leaked...)
	}
	return names
}

// containsFirst tells whether what leaked goes before there is a new key.
func (r *rotator) containsFirst() bool {
	return !r.Contained && len(r.Old) > 0 && slices.ContainsFunc(r.Leaks, func(d rotation.Decision) bool { return d.RevokeFirst })
}

// contain takes what leaked away before there is a new key. From here on it only goes forward.
func (r *rotator) contain() rotation.Phase {
	r.Irreversible = true
	byHand := r.Prepared.RevokeByHand || slices.ContainsFunc(r.Old, func(o activities.Ref) bool { return o.KeyID == "" })
	if byHand {
		return rotation.AwaitingRevocation
	}
	mode := activities.DeleteKey
	if r.Prepared.CanDisable {
		mode = activities.DisableKey
	}
	_, f, ok := do[struct{}](r, changing(), string(mode)+" what leaked, before there is a new key", acts.Revoke, activities.RevokeInput{
		Target: r.target(), Keys: r.Old, Mode: mode, Contain: true, Emergency: r.raisedBy(),
	})
	switch {
	case !ok && f == nil:
		return rotation.Revoke
	case f != nil:
		return r.ask(notRevoked, "What leaked could not be revoked first: "+f.text+" Put that right, then approve to try again.", rotation.Revoke)
	}
	return r.contained()
}

// contained goes on to the new key.
func (r *rotator) contained() rotation.Phase {
	next := r.ContainThen
	r.Contained, r.ContainThen = true, ""
	return next
}

// giveUp wishes to roll back because of a failure that waiting does not cure; where there is no way back a person puts
// it right.
func (r *rotator) giveUp(why string) rotation.Phase {
	if r.Irreversible {
		return r.ask(cannotGoOn, why+" There is no way back: put that right, then approve to try again.", r.Step)
	}
	r.wish(why)
	return r.Step
}

// unknown keeps what nobody could find for the result, once.
func (r *rotator) unknown(sentences []string) {
	for _, s := range sentences {
		r.Unknown = true
		if !slices.Contains(r.Left, s) {
			r.Left = append(r.Left, s)
		}
	}
}

// stillLive says what an emergency that rolled back leaves.
func (r *rotator) stillLive() {
	if !r.emergency() || r.Step != rotation.RolledBack || len(r.Old) == 0 {
		return
	}
	var names []string
	for _, o := range r.Old {
		names = append(names, o.Name())
	}
	r.Left = append(r.Left, "THE EMERGENCY IS NOT DONE: what leaked was not replaced, and may still be live: "+strings.Join(names, ", ")+". Put right what stands above, then raise it again: starter emergency "+r.in.Key.Name)
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
