package workflows

import (
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// store brings the pending value to every other store.
func (r *runner) store() decision {
	out, f, ok := runStep[activities.Ref](r, writeRetry(), "write the pending value to every store", activities.StoreName, activities.StoreInput{Target: r.target(), New: *r.incoming()})
	if ok {
		*r.incoming() = out
	}
	return func() rotation.State {
		switch {
		case f != nil && r.backwards():
			return r.cannotReverse(f.text)
		case f != nil:
			return r.giveUp("The new value cannot be stored everywhere: "+f.text, rotation.StepStore)
		case !ok:
			return r.stay()
		}
		return r.to(rotation.StepVerify)
	}
}

// verify proves the incoming value. A fresh key may be refused for a while; an old one that is refused cannot be gone back
// to, unless an abandoned request has disabled it.
func (r *runner) verify() decision {
	out, f, ok := runStep[activities.Verified](r, readRetry(), "verify the value from every store", activities.VerifyName, activities.VerifyInput{
		Target: r.target(), Value: *r.incoming(), MayBeRevoked: r.Direction.MayBeRevoked,
	})
	return func() rotation.State {
		if !ok && f == nil {
			return r.stay()
		}
		why := out.Why
		if f != nil {
			why = f.text
		}
		if out.Wait > 0 {
			return r.waitOut(time.Duration(out.Wait), "A request to revoke "+r.incoming().Name()+" may still take effect, or somebody who was asked to has revoked it a moment ago. The key is verified when that would show.")
		}
		waited := r.waitedOut()
		patience := r.now().Add(time.Duration(r.Keys.Prepared.Propagation))
		if r.Poll.ExpectedUntil.IsZero() {
			r.Poll.ExpectedUntil = patience // from the first answer on
		}
		switch {
		case ok && out.OK:
			return r.promoting()
		case waited && r.backwards() && f == nil && !out.Final && r.enableAgain():
			return r.to(rotation.StepEnable) // the abandoned request has taken effect
		case f == nil && !out.Final && r.now().Before(r.Poll.ExpectedUntil):
			return r.pollAgain(pollInterval(r.Poll.Count), poll{
				why: why + " A key may take a moment to be known everywhere; asking again.", summary: "ask the provider again", expected: r.Poll.ExpectedUntil,
			})
		case r.backwards() && f == nil && !out.Final && r.enableAgain():
			return r.to(rotation.StepEnable)
		case r.backwards():
			return r.cannotReverse(why)
		}
		if f == nil && !r.At.Commitment.CanRollBack() {
			// The same key again would be refused again.
			r.Keys.Refused = r.Keys.New.Fingerprint
			return r.ask(cannotGoOn, "The new key did not pass: "+why+" There is no way back: fix that, then approve to create another key.", r.making())
		}
		return r.giveUp("The new key did not pass: "+why, rotation.StepVerify)
	}
}

// promoting is promote, from which on both keys work, if there is an old one to go back to.
func (r *runner) promoting() rotation.State {
	next := r.to(rotation.StepPromote)
	if r.At.Commitment == rotation.Staged {
		next.Commitment = rotation.BothKeys
		if r.emergency() || !r.oldWorks() {
			// Nothing ever rolls back to a compromised key.
			next.Commitment = rotation.ForwardOnly
		}
	}
	return next
}

// oldWorks reports whether there is an old key that applications could read again.
func (r *runner) oldWorks() bool { return len(r.Keys.Old) > 0 && !r.Keys.Prepared.OldRefused }

// giveUp rolls back because of a failure that waiting does not cure; where there is no way back a person fixes it.
func (r *runner) giveUp(why string, step rotation.Step) rotation.State {
	if !r.At.Commitment.CanRollBack() {
		return r.ask(cannotGoOn, why+" There is no way back: fix that, then approve to try again.", step)
	}
	r.requestRollback(why)
	return r.stay()
}

// promote makes the incoming value current everywhere, and waits until applications can read it everywhere.
func (r *runner) promote() decision {
	if r.Direction.Approved == changedCurrent {
		// A person has agreed that what somebody else had made current goes too.
		r.Keys.Extra, r.Keys.Found = append(r.Keys.Extra, r.Keys.Found...), nil
	}
	// Behind the lag that stores have, Temporal asks until they agree: it costs no events.
	insist := !r.Poll.ExpectedUntil.IsZero() && r.now().After(r.Poll.ExpectedUntil)
	out, f, ok := runStep[activities.Promoted](r, writeRetry(), "make the value current everywhere", activities.PromoteName, activities.PromoteInput{
		Target: r.target(), To: *r.incoming(), Duties: r.outgoing(), ApprovedQuestions: r.Approvals.ApprovedQuestions, Insist: insist,
	})
	if ok {
		*r.incoming() = out.To
		r.dropUnknown(out.Unknown)
	}
	return func() rotation.State {
		switch {
		case f != nil && r.At.Commitment.CanRollBack():
			r.requestRollback("The promote cannot finish: " + f.text)
			return r.stay()
		case f != nil:
			return r.ask(cannotGoOn, "The value cannot be made current everywhere: "+f.text+" Fix that, then approve to try again.", rotation.StepPromote)
		case !ok:
			return r.stay()
		case out.Question != nil:
			r.Keys.Found = out.Found
			return r.askAbout(*out.Question, rotation.StepPromote)
		case len(out.Lagging) > 0:
			lag := r.now().Add(time.Duration(r.Keys.Prepared.ReadLag) + r.blockedAfter())
			if !r.Poll.ExpectedUntil.IsZero() {
				lag = r.Poll.ExpectedUntil
			}
			return r.pollAgain(pollInterval(r.Poll.Count), poll{
				why:     "Applications do not read the value yet in " + strings.Join(out.Lagging, ", ") + ". Nothing is revoked before they do.",
				summary: "check again what applications read", expected: lag,
			})
		}
		r.startGrace(time.Duration(r.Keys.Prepared.ReadLag))
		return r.to(rotation.StepGrace)
	}
}

// dropUnknown takes keys that no store knows any more out of what is to be revoked: what an earlier attempt had staged and
// this rotation has cleared. Whatever else they are, nobody can prove it, so it is a follow-up.
func (r *runner) dropUnknown(names []string) {
	if len(names) == 0 || r.backwards() {
		return
	}
	isUnknown := func(o activities.Ref) bool { return slices.Contains(names, o.Name()) }
	r.Keys.Old, r.Keys.Extra = slices.DeleteFunc(r.Keys.Old, isUnknown), slices.DeleteFunc(r.Keys.Extra, isUnknown)
	r.followUp("No store has these values any more, so this rotation did not revoke them: " + strings.Join(names, ", ") + ". Check whether one is live, and delete it if nobody uses it: " + r.Keys.Prepared.ProviderConsole)
}
