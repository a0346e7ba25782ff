package workflows

import (
	"fmt"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// startGrace begins the grace period: applications read the value in every store, the last of them after lag.
func (r *runner) startGrace(lag time.Duration) {
	d := &r.Direction
	d.PublishedAt = r.now().Add(lag)
	if !r.backwards() {
		r.Progress.PublishedAt = d.PublishedAt
	}
	d.GraceUntil = d.PublishedAt.Add(time.Duration(r.in.Key.Policy.Grace))
	switch {
	case len(r.outgoing()) == 0:
		d.GraceUntil = r.now()
	case r.emergency():
		d.GraceUntil = r.now()
		if allowed := r.emergencyGrace(); allowed > 0 {
			d.GraceUntil = d.PublishedAt.Add(allowed)
		}
	case r.onlyOldIsDead():
		// Nobody can be using a key that is dead already.
		d.GraceUntil = r.now()
	}
	d.Recheck = time.Duration(r.in.Key.Policy.Recheck)
	d.NextCheck = r.now().Add(d.Recheck)
}

// onlyOldIsDead reports whether the provider refused the one old key when the rotation began.
func (r *runner) onlyOldIsDead() bool {
	return r.Keys.Prepared.OldRefused && !r.backwards() && len(r.outgoing()) == 1
}

const maxRecheck = 6 * time.Hour

// grace keeps both keys, and keeps an eye on the new one.
func (r *runner) grace() decision {
	if r.countDue() {
		return r.count()
	}
	w := waiting{summary: "grace period: old and new key both work", until: r.Direction.GraceUntil}
	if r.Direction.NextCheck.Before(w.until) {
		w.until = r.Direction.NextCheck
		w.summary += "; check the new key again"
	}
	if since := r.Direction.UncheckedSince; !since.IsZero() {
		w.personFrom = since.Add(r.blockedAfter())
	}
	r.wait(w)
	return func() rotation.State {
		switch {
		case !r.now().Before(r.Direction.GraceUntil):
			return r.to(rotation.StepGuard)
		case !r.now().Before(r.Direction.NextCheck):
			return r.to(rotation.StepRecheck)
		}
		return r.stay()
	}
}

// refusalsUntilBack is how often in a row the new key must be refused before the rotation rolls back by itself.
const refusalsUntilBack = 3

// recheck looks at the key that applications read.
func (r *runner) recheck() decision {
	var out activities.Health
	f := r.runOnce(readRetry(), "is the new key still good?", activities.CheckHealthName, activities.HealthInput{Target: r.target(), New: *r.incoming(), Old: r.outgoing()}, &out)
	return func() rotation.State {
		d := &r.Direction
		next := r.to(rotation.StepGrace)
		if f != nil {
			if d.UncheckedSince.IsZero() {
				d.UncheckedSince = r.now()
			}
			d.NextCheck = r.now().Add(d.Recheck)
			d.Trouble = "The new key could not be checked: " + f.text
			return next
		}
		d.UncheckedSince = time.Time{}
		r.endWait()
		d.Trouble = out.Why
		switch {
		case out.New && out.Current:
			d.Refusals, d.Recheck = 0, min(2*d.Recheck, maxRecheck)
		case !out.New:
			next = r.refusedInGrace(out)
		}
		d.NextCheck = r.now().Add(d.Recheck)
		r.Approvals.Reverify = len(r.Approvals.Signed) > 0
		return next
	}
}

// refusedInGrace decides what to do about a refusal of the key that applications read.
func (r *runner) refusedInGrace(out activities.Health) rotation.State {
	d := &r.Direction
	d.Refusals++
	d.Recheck = min(d.Recheck, time.Minute)
	switch {
	case r.backwards() && r.enableAgain():
		return r.to(rotation.StepEnable)
	case d.Refusals < refusalsUntilBack:
		return r.to(rotation.StepGrace)
	case out.Old && r.At.Commitment.CanRollBack():
		r.requestRollback(fmt.Sprintf("The new key was refused %d times in a row, and the old one still works. %s", d.Refusals, out.Why))
		return r.to(rotation.StepGrace)
	}
	d.Refusals = 0
	old := "The old key is refused as well."
	if out.Old {
		old = "The old key works, but this rotation cannot go back to it any more."
	}
	return r.ask(keysRefused, "Applications fail now. "+out.Why+" "+old+" Make the key that they read work again at the provider. Approve to keep watching.", rotation.StepGrace)
}

// guard asks whether the outgoing keys are still in use.
func (r *runner) guard() decision {
	switch {
	case r.countDue():
		return r.count()
	case len(r.outgoing()) == 0:
		return r.revoking
	case r.emergency() || r.onlyOldIsDead():
		return func() rotation.State {
			if r.now().Before(r.Direction.GraceUntil) {
				return r.to(rotation.StepGrace) // extended meanwhile
			}
			if r.fourEyes() {
				return r.approval(revokePolicy, "The policy requires two operators to approve the revoke. The provider refused the old key already when this rotation began.")
			}
			return r.revoking()
		}
	}
	signals, f, ok := runStep[[]rotation.UsageReport](r, readRetry(), "is the old key still in use?", activities.GuardName, activities.GuardInput{Target: r.target(), Old: r.outgoing()})
	return func() rotation.State {
		switch {
		case r.now().Before(r.Direction.GraceUntil):
			return r.to(rotation.StepGrace) // extended meanwhile
		case r.emergency():
			return r.revoking()
		case f != nil:
			return r.useUnknown(f.text)
		case !ok:
			return r.stay()
		}
		return r.judgeUse(signals)
	}
}

// judgeUse decides by what the provider knows of the use of each outgoing key.
func (r *runner) judgeUse(signals []rotation.UsageReport) rotation.State {
	var unknown []string
	for i, o := range r.outgoing() {
		use, why := rotation.EvaluateUse(signals[i], r.Direction.PublishedAt, r.in.Key.Policy.Quiet)
		switch use {
		case rotation.InUse:
			return r.inUse(o.Name() + ": " + why)
		case rotation.Unknown:
			unknown = append(unknown, o.Name()+": "+why)
		}
	}
	if len(unknown) > 0 {
		return r.useUnknown(strings.Join(unknown, "; "))
	}
	if r.in.Key.Policy.Approve || r.fourEyes() {
		return r.approval(revokePolicy, "The policy requires somebody to approve the revoke. The old key is unused.")
	}
	return r.revoking()
}

// inUse extends grace until the cap; then a person decides.
func (r *runner) inUse(why string) rotation.State {
	c := r.decisionContext()
	if c.GraceUntil.Before(c.GraceCap) && r.Direction.Approved != keyInUse {
		r.Direction.GraceUntil = c.Extended(max(r.in.Key.Policy.Quiet, rotation.Duration(time.Minute)))
		r.Progress.Note = "The old key is still in use, so grace is extended to " + details.Moment(r.Direction.GraceUntil) + ". " + why
		return r.to(rotation.StepGrace)
	}
	return r.approval(keyInUse, "The old key is still in use and grace cannot be extended any more. "+why)
}

func (r *runner) useUnknown(why string) rotation.State {
	switch p := r.in.Key.Policy; {
	case p.UnknownUse != rotation.UnknownTimer:
		return r.approval(useUnknown, "It is not known whether the old key is still in use. "+why)
	case p.Approve || r.fourEyes():
		return r.approval(useUnknown, "The policy requires somebody to approve the revoke. It is not known whether the old key is in use. "+why)
	}
	return r.revoking()
}
