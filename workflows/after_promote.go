package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// promote makes the incoming value current everywhere, and waits until applications can read it everywhere.
func (r *rotator) promote() rotation.Phase {
	r.Promoting = true
	if r.emergency() {
		// Nothing ever rolls back to a compromised key.
		r.Irreversible = true
	}
	out, f, ok := do[activities.Promoted](r, changing(), "make the value current everywhere", acts.Promote, activities.PromoteInput{
		Target: r.target(), To: *r.incoming(), Duties: r.outgoing(),
	})
	switch {
	case !ok && f == nil:
		return rotation.Promote
	case f != nil && r.wayBack():
		r.wish("The promote cannot finish: " + f.text)
		return rotation.Promote
	case f != nil:
		r.stalled(f.text)
		r.sleep("try to promote again", stallInterval(r.Polls))
		r.Polls++
		return rotation.Promote
	}
	*r.incoming() = out.To
	if len(out.Lagging) > 0 {
		r.stalled("Applications do not read the new value yet in " + strings.Join(out.Lagging, ", ") + ". Nothing is revoked before they do.")
		r.sleep("look again", pollInterval(r.Polls))
		r.Polls++
		return rotation.Promote
	}
	r.published(time.Duration(r.Prepared.ReadLag))
	return rotation.Grace
}

func (r *rotator) wayBack() bool {
	return !r.Reverse && !r.Irreversible && len(r.Old) > 0 && !r.Prepared.OldRefused
}

// published starts the grace period: applications read the value in every store, the last of them after lag.
func (r *rotator) published(lag time.Duration) {
	r.PublishedAt = r.now().Add(lag)
	r.GraceUntil = r.PublishedAt.Add(time.Duration(r.in.Key.Policy.Grace))
	switch {
	case len(r.outgoing()) == 0:
		r.GraceUntil = r.now()
	case r.emergency():
		r.GraceUntil = r.now()
		if d := r.allowance(); d > 0 {
			r.GraceUntil = r.PublishedAt.Add(d)
		}
	case r.Prepared.OldRefused && !r.Reverse && len(r.Old) == 1:
		// Nobody can be using a key that is dead already.
		r.GraceUntil = r.now()
	}
}

const maxRecheck = 6 * time.Hour

// grace keeps both keys, and keeps an eye on the new one.
func (r *rotator) grace() rotation.Phase {
	if (r.Recount || len(r.Signed) > 0) && !r.recount() {
		// Where it cannot be read who may sign, the grace period takes its time; asked again with the next look at the key.
		r.Recount = false
	}
	if r.Recheck == 0 {
		r.Recheck = time.Duration(r.in.Key.Policy.Recheck)
	}
	until, graceUntil := r.now().Add(r.Recheck), r.GraceUntil
	recheck := until.Before(r.GraceUntil)
	if !recheck {
		until = r.GraceUntil
	}
	summary := "grace period: old and new key both work"
	if recheck {
		summary += "; look at the new key again"
	}
	r.until(summary, until, func() bool { return !r.GraceUntil.Equal(graceUntil) || r.Recount })
	switch {
	case r.Wish != nil:
		return rotation.Grace
	case !r.now().Before(r.GraceUntil):
		return rotation.Guard
	case r.now().Before(until):
		return rotation.Grace // extended, or signed
	}
	return r.recheck()
}

// refusalsUntilBack is how often in a row the new key must be refused before the rotation rolls back by itself.
const refusalsUntilBack = 3

func (r *rotator) recheck() rotation.Phase {
	var out activities.Health
	if f := r.once(asking(), "is the new key still good?", acts.CheckHealth, activities.HealthInput{Target: r.target(), New: *r.incoming(), Old: r.outgoing()}, &out); f != nil {
		r.stalled("The new key could not be checked: " + f.text)
		return rotation.Grace
	}
	r.stalled("")
	if out.New && out.Current {
		r.Refusals, r.Recheck = 0, min(2*r.Recheck, maxRecheck)
		return rotation.Grace
	}
	r.stalled(out.Why)
	if out.New {
		return rotation.Grace
	}
	r.Refusals++
	r.Recheck = min(r.Recheck, time.Minute)
	switch {
	case r.Refusals < refusalsUntilBack:
		return rotation.Grace
	case out.Old && r.wayBack():
		r.wish(fmt.Sprintf("The new key was refused %d times in a row, and the old one still works. %s", r.Refusals, out.Why))
		return rotation.Grace
	default:
		r.Refusals = 0
		old := "The old key is refused as well."
		if out.Old {
			old = "The old key works, but this rotation cannot go back to it any more."
		}
		return r.ask(keysRefused, "Applications fail now. "+out.Why+" "+old+" Make the key that they read work at the provider. Approve to go on watching.", rotation.Grace)
	}
}

// guard asks whether the outgoing keys are still in use.
func (r *rotator) guard() rotation.Phase {
	if len(r.outgoing()) == 0 {
		return rotation.Retire
	}
	if r.emergency() {
		return rotation.Revoke
	}
	if r.Prepared.OldRefused && !r.Reverse && len(r.Old) == 1 {
		if r.fourEyes() {
			return r.approval(revokePolicy, "The policy wants two operators to approve the revoke. The provider refused the old key already when this rotation began.")
		}
		return rotation.Revoke
	}
	signals, f, ok := do[[]rotation.Signal](r, asking(), "is the old key still in use?", acts.Guard, activities.GuardInput{Target: r.target(), Old: r.outgoing()})
	r.drain()
	if r.now().Before(r.GraceUntil) {
		return rotation.Grace // extended meanwhile
	}
	if r.emergency() {
		return rotation.Revoke
	}
	if !ok {
		if f != nil {
			return r.unknownUse(f.text)
		}
		return rotation.Guard
	}
	var unknown []string
	for i, s := range signals {
		use, why := rotation.Judge(s, r.PublishedAt, r.in.Key.Policy.Quiet)
		switch use {
		case rotation.InUse:
			return r.inUse(r.outgoing()[i].Name() + ": " + why)
		case rotation.Unknown:
			unknown = append(unknown, r.outgoing()[i].Name()+": "+why)
		}
	}
	if len(unknown) > 0 {
		return r.unknownUse(strings.Join(unknown, "; "))
	}
	if r.in.Key.Policy.Approve || r.fourEyes() {
		return r.approval(revokePolicy, "The policy wants a person to approve the revoke. The old key is unused.")
	}
	return rotation.Revoke
}

// inUse extends grace until the cap; then a person decides.
func (r *rotator) inUse(why string) rotation.Phase {
	s := r.situation()
	if s.GraceUntil.Before(s.GraceCap) && r.Approved != keyInUse {
		r.GraceUntil = s.Extended(max(r.in.Key.Policy.Quiet, rotation.Duration(time.Minute)))
		r.Note = "The old key is still in use, so grace is extended to " + stamp(r.GraceUntil) + ". " + why
		return rotation.Grace
	}
	return r.approval(keyInUse, "The old key is still in use and grace cannot be extended any more. "+why)
}

func (r *rotator) unknownUse(why string) rotation.Phase {
	switch p := r.in.Key.Policy; {
	case p.UnknownUse != rotation.UnknownTimer:
		return r.approval(useUnknown, "Nobody can tell whether the old key is still in use. "+why)
	case p.Approve || r.fourEyes():
		return r.approval(useUnknown, "The policy wants a person to approve the revoke. Whether the old key is in use is not known. "+why)
	}
	return rotation.Revoke
}

// approvals from the least to the gravest: who approved a graver one has approved the others.
var approvals = []subject{revokePolicy, useUnknown, keyInUse}

// approval asks a person before the revoke. Guard looks again after the answer, and asks anew only about what is
// graver than what was approved.
func (r *rotator) approval(about subject, question string) rotation.Phase {
	if slices.Index(approvals, r.Approved) >= slices.Index(approvals, about) && (!r.fourEyes() || r.mandated()) {
		return rotation.Revoke
	}
	return r.ask(about, question, rotation.Guard)
}

// revoke takes the outgoing keys away: first so that it can be undone, then for good.
func (r *rotator) revoke() rotation.Phase {
	if r.ContainThen != "" {
		return r.contain()
	}
	if len(r.outgoing()) == 0 {
		return rotation.Retire
	}
	if r.Contained && r.Prepared.RevokeByHand {
		return rotation.Confirm
	}
	if r.Prepared.RevokeByHand || slices.ContainsFunc(r.outgoing(), func(o activities.Ref) bool { return o.KeyID == "" }) {
		return rotation.AwaitingRevocation
	}
	soak := time.Duration(r.in.Key.Policy.Soak)
	if r.Prepared.CanDisable && soak > 0 && !r.emergency() {
		if r.SoakUntil.IsZero() {
			// Before it is asked for: its answer can be lost, and a roll-back must undo it all the same.
			r.Disabled = true
			if next, done := r.takeAway(activities.DisableKey); !done {
				return next
			}
			r.SoakUntil = r.now().Add(soak)
			r.show()
		}
		r.until("the old key is disabled; it can still be enabled again", r.SoakUntil, r.emergency)
		if r.wantsBack() {
			return rotation.Revoke
		}
	}
	r.drain()
	if r.wantsBack() {
		return rotation.Revoke
	}
	r.Irreversible = true
	if next, done := r.takeAway(activities.DeleteKey); !done {
		return next
	}
	return rotation.Confirm
}

func (r *rotator) takeAway(mode activities.RevokeMode) (rotation.Phase, bool) {
	_, f, ok := do[struct{}](r, changing(), string(mode)+" the old key at the provider", acts.Revoke, activities.RevokeInput{
		Target: r.target(), Keys: r.outgoing(), Keep: *r.incoming(), Mode: mode, Approval: r.Mandate, Emergency: r.raisedBy(),
	})
	if f != nil && f.Code == activities.FourEyes {
		if next, again := r.unmandated(f); again {
			return next, false
		}
	}
	if f != nil {
		return r.ask(notRevoked, "The old key could not be revoked: "+f.text+" Put that right, then approve to try again.", rotation.Revoke), false
	}
	return rotation.Revoke, ok
}

// awaitingRevocation waits for a person to revoke the outgoing key. Its deadline makes it overdue; there is
// nothing else that rekey could do.
func (r *rotator) awaitingRevocation() rotation.Phase {
	if !r.early(rotation.KeyRevoked) {
		r.waitForPerson(func() bool { return r.Claim != nil })
	}
	if r.Wish != nil || r.Claim == nil {
		return rotation.AwaitingRevocation
	}
	r.Claim = nil
	if r.ContainThen != "" {
		return r.contained()
	}
	return rotation.Confirm
}

// confirm proves that the outgoing keys are refused.
func (r *rotator) confirm() rotation.Phase {
	if r.PatienceUntil.IsZero() {
		// A provider's caches live a moment longer than they say.
		r.PatienceUntil = r.now().Add(time.Duration(r.Prepared.RevocationLag) + 10*time.Second)
	}
	out, f, ok := do[activities.Confirmed](r, asking(), "is the old key refused?", acts.Confirm, activities.ConfirmInput{Target: r.target(), Keys: r.outgoing(), New: r.incoming()})
	switch {
	case !ok && f == nil:
		return rotation.Confirm
	case f != nil:
		return r.ask(notRevoked, "Whether the old key is refused could not be tried: "+f.text+" Approve to try again.", rotation.Confirm)
	case out.NewRefused && r.Approved != newRefused:
		hint := "So is the key that was to be revoked: make the one that they read work at the provider."
		if len(out.Accepted) > 0 {
			hint = "It still accepts " + r.called(out.Accepted) + ", which was to be revoked: was the wrong key revoked? Then return to the other one at once, if that is offered below."
		}
		return r.ask(newRefused, "Applications fail now: the provider refuses the key that they read, "+called(*r.incoming())+". "+hint, rotation.Confirm)
	}
	if len(out.Accepted) == 0 {
		r.Irreversible = true
		for _, name := range out.Unproven {
			r.Left = append(r.Left, fmt.Sprintf("That %s is refused could not be tried: its value is gone, and the provider has no list.", name))
		}
		r.RevokedAt = r.now()
		for _, o := range r.outgoing() {
			r.Revoked = append(r.Revoked, o.Name())
		}
		r.withoutFourEyes()
		return rotation.Retire
	}
	accepted := r.called(out.Accepted)
	if r.now().Before(r.PatienceUntil) {
		r.stalled("The provider still accepts " + accepted + "; a revoke takes a moment.")
		r.sleep("ask the provider again", pollInterval(r.Polls))
		r.Polls++
		return rotation.Confirm
	}
	r.Note = "The provider still accepts " + accepted + ": it was not revoked. Look whether another key was revoked in its place."
	if r.Prepared.RevokeByHand {
		return rotation.AwaitingRevocation
	}
	return r.ask(notRevoked, r.Note+" Revoke it at the provider, then approve to check again.", rotation.Revoke)
}

// retire clears the stores and sweeps orphans.
func (r *rotator) retire() rotation.Phase {
	out, f, ok := do[activities.Retired](r, changing(), "destroy old versions, sweep orphans", acts.Retire, activities.RetireInput{
		Target: r.target(), Gone: r.outgoing(), Keep: r.incoming(),
	})
	switch {
	case !ok && f == nil:
		return rotation.Retire
	case f != nil:
		return r.ask(notCleared, "The old versions could not be cleared: "+f.text+" Approve to try again.", rotation.Retire)
	}
	r.swept(out)
	if out.SweepIn > 0 {
		r.sleep("wait until an abandoned mint can no longer take effect", time.Duration(out.SweepIn))
		return rotation.Retire
	}
	if r.Reverse {
		return rotation.RolledBack
	}
	return rotation.Completed
}
