package workflows

import (
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// EmergencyState is what a rotation knows of the emergencies that it serves.
type EmergencyState struct {
	// Leaks are these emergencies.
	Leaks []rotation.Decision `json:"leaks,omitempty"`
	// Contained: what leaked was taken away before there was a new key.
	Contained bool `json:"contained,omitempty"`
}

func (r *runner) emergency() bool { return r.in.Reason == rotation.Emergency }

// beginEmergency takes the emergencies that a rotation is started with.
func (r *runner) beginEmergency() {
	if !r.emergency() {
		return
	}
	leaks := slices.Clone(r.in.Emergencies)
	if r.in.Carry != nil {
		leaks = slices.Clone(r.in.Carry.Emergencies)
	}
	r.Carry.Emergencies = nil
	if len(leaks) == 0 {
		leaks = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: r.in.By, Why: r.in.Why}}}
	}
	for i := range leaks {
		leaks[i].Kind, leaks[i].Signer = rotation.RaiseEmergency, nil // nobody signs an emergency
		leaks[i].DecisionMessage = leaks[i].Bounded()
		if leaks[i].At.IsZero() {
			leaks[i].At = r.Progress.StartedAt
		}
	}
	r.Emergency.Leaks = leaks
	if r.in.Carry == nil {
		r.Carry.Decisions = slices.Clone(leaks)
	}
}

// raise takes an emergency into a rotation that is under way. Where this rotation cannot serve it, another one follows as
// soon as the step that is under way has ended.
func (r *runner) raise(d rotation.Decision) {
	if r.needsSuccessor(d) {
		r.Inbox.Successors = withLeak(r.Inbox.Successors, d)
		r.Progress.Note = "An emergency was raised by " + d.By + ": this rotation stops here, and one that replaces everything that leaked follows at once."
	} else {
		r.Emergency.Leaks = withLeak(r.Emergency.Leaks, d)
		r.becomeEmergency()
	}
	r.upsert(ReasonAttribute.ValueSet(string(rotation.Emergency)))
}

// withLeak adds an emergency to others, unless one of them says the same.
func withLeak(all []rotation.Decision, d rotation.Decision) []rotation.Decision {
	if slices.ContainsFunc(all, func(o rotation.Decision) bool {
		return o.RevokeFirst == d.RevokeFirst && o.For == d.For && slices.Equal(o.Leaked, d.Leaked)
	}) {
		return all
	}
	return append(all, d)
}

// needsSuccessor reports whether an emergency needs a rotation of its own: this one goes back or has ended, or its own new
// key, or a key that it does not revoke, is among what leaked.
func (r *runner) needsSuccessor(d rotation.Decision) bool {
	switch {
	case r.At.Step.Closed() || r.At.Commitment.Backwards():
		return true
	case r.At.Commitment == rotation.Looking:
		return false // nothing was decided yet; prepare looks with its eyes
	case len(d.Leaked) == 0 || d.RevokeFirst && r.Progress.PublishedAt.IsZero():
		return true
	}
	stores := r.in.Key.Stores
	return slices.ContainsFunc(d.Leaked, func(name string) bool {
		means := func(o activities.Ref) bool { return o.Called(name, stores) }
		return r.Keys.New != nil && means(*r.Keys.New) || !slices.ContainsFunc(r.Keys.Old, means)
	})
}

// becomeEmergency makes this rotation an emergency: no grace and guard beyond what the emergency allows, and no way back
// to a key that leaked.
func (r *runner) becomeEmergency() {
	r.in.Reason, r.Inbox.Rollback = rotation.Emergency, nil
	if r.At.Commitment == rotation.BothKeys {
		r.enter(rotation.State{Step: r.At.Step, Commitment: rotation.ForwardOnly})
	}
	if d := &r.Direction; !d.PublishedAt.IsZero() && !d.GraceUntil.IsZero() {
		d.GraceUntil = earliest(d.GraceUntil, latest(r.now(), d.PublishedAt.Add(r.emergencyGrace())))
	}
	switch q := r.question(); {
	case slices.Contains(aboutRevoke, q.Kind):
		r.withdraw(rotation.StepGuard) // it was asked because somebody might still use the old key
	case q.Kind == noWayBack:
		r.withdraw(rotation.StepVerify) // nobody goes back any more
	}
}

// emergencyGrace is how long the emergencies let a leaked key work beside the new one: the shortest that anybody asked for.
func (r *runner) emergencyGrace() time.Duration {
	var d time.Duration
	for i, l := range r.Emergency.Leaks {
		if i == 0 || time.Duration(l.For) < d {
			d = time.Duration(l.For)
		}
	}
	return d
}

// leakedNames are the values that the emergencies name; none means every value.
func (r *runner) leakedNames() []string {
	var names []string
	for _, l := range r.Emergency.Leaks {
		if len(l.Leaked) == 0 {
			return nil
		}
		names = append(names, l.Leaked...)
	}
	return names
}

// containsFirst reports whether what leaked goes before there is a new key.
func (r *runner) containsFirst() bool {
	return len(r.Keys.Old) > 0 && slices.ContainsFunc(r.Emergency.Leaks, func(d rotation.Decision) bool { return d.RevokeFirst })
}

// suppliedInVain says what becomes of a key that a person supplied and an emergency overtook before it was published. The
// rotation that follows takes it away only if it is among what leaked.
func (r *runner) suppliedInVain() string {
	n := r.Keys.New
	if n == nil || r.Keys.Minted || r.Keys.Prepared.New != nil || r.backwards() || !r.Progress.PublishedAt.IsZero() ||
		slices.ContainsFunc(r.Carry.FollowUps, func(f string) bool { return strings.Contains(f, n.Name()) }) {
		return ""
	}
	if r.At.Commitment == rotation.Staged {
		return "The supplied key " + n.Name() + " is not used: it was made before the emergency. Delete it: " + r.Keys.Prepared.ProviderConsole
	}
	return "The supplied key " + n.Name() + " was overtaken by an emergency. Check whether applications read it; if none does, delete it: " + r.Keys.Prepared.ProviderConsole
}

// emergencyNotDone says what an emergency that rolled back leaves.
func (r *runner) emergencyNotDone() {
	if !r.emergency() || r.At.Step != rotation.StepRolledBack {
		return
	}
	var names []string
	for _, o := range r.Keys.Old {
		names = append(names, o.Name())
	}
	if len(names) == 0 {
		names = r.leakedNames()
	}
	if len(names) == 0 {
		names = []string{"every value that was made before"}
	}
	r.followUp("THE EMERGENCY IS NOT DONE: what leaked was not replaced, and may still be live: " + strings.Join(names, ", ") + ". Fix what is named above, then raise it again: rekey emergency " + r.in.Key.Name)
}
