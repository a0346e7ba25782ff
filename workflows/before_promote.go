package workflows

import (
	"fmt"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// prepare looks before anything changes.
func (r *rotator) prepare() rotation.Phase {
	if next, givesWay := r.apart(); givesWay {
		return next
	}
	leaks := len(r.Leaks)
	out, f, ok := do[activities.Prepared](r, asking(), "look at provider and stores", acts.Prepare, activities.PrepareInput{
		Target: r.target(), Reason: r.in.Reason, StartedAt: r.StartedAt, Granted: r.Granted, Leaked: r.named(),
	})
	switch {
	case r.stops():
		return rotation.Prepare
	case !ok:
		return r.nothingDone(f)
	case len(r.Leaks) != leaks:
		return rotation.Prepare // an emergency came meanwhile: look again with its eyes
	}
	r.Prepared, r.Old, r.New = out, out.Old, out.New
	r.unknown(out.Unknown)
	if out.Question != "" {
		return r.ask(foreignClaim, out.Question, rotation.Prepare)
	}
	switch out.Verdict.Work {
	case rotation.Nothing:
		r.NotDue, r.Outcome = true, "Not due: "+out.Verdict.Message
		if r.emergency() {
			r.Outcome = out.Verdict.Message
		}
		if r.Unknown {
			r.Outcome = "Nothing was changed: what was named is not known. " + strings.Join(out.Unknown, " ")
		}
		return rotation.Completed
	case rotation.Finish:
		// An earlier rotation published the new value. When is not known for sure, so grace begins again.
		r.Promoting, r.Irreversible = true, true
		if r.emergency() {
			// What leaked may be written down nowhere yet; promote does that.
			return rotation.Promote
		}
		r.published(0)
		return rotation.Grace
	}
	next := rotation.Create
	if out.SupplyByHand {
		next = rotation.AwaitingKey
	}
	if r.containsFirst() {
		r.ContainThen = next
		return rotation.Revoke
	}
	return next
}

// nothingDone ends a rotation that has changed nothing yet.
func (r *rotator) nothingDone(f *failure) rotation.Phase {
	if f != nil {
		r.Outcome = f.text
		r.Left = append(r.Left, "Nothing was changed. "+f.text)
	} else if r.Wish == nil {
		return rotation.Prepare // an emergency came, and nothing rolls back any more
	} else {
		r.Outcome = r.Wish.Why
	}
	return rotation.RolledBack
}

// pollsUntilDeadline is how many attempts to mint may fail before it counts as waiting for a person.
const pollsUntilDeadline = 8

// create mints and stages. Each attempt is its own activity, because only the answer tells how long to wait.
func (r *rotator) create() rotation.Phase {
	var out activities.Created
	f := r.once(minting(), "mint a key and stage it", acts.Create, activities.CreateInput{
		Target: r.target(), StartedAt: r.StartedAt, Granted: r.Granted,
	}, &out)
	var wait time.Duration
	switch {
	case f != nil && f.Unsettled:
		// The mint may have taken effect, or may yet. The next attempt would find the claim too young anyway.
		wait = time.Duration(r.Prepared.Horizon)
	case f != nil && f.waitable():
		// Nothing was minted, so nothing has to be waited out; but a long outage must not fill the history.
		wait = max(pollInterval(r.Polls), stallInterval(r.Polls-6), time.Duration(f.RetryAfter))
	case f != nil:
		return r.giveUp("No new key could be made: " + f.text)
	case out.Question != "":
		return r.ask(unprovenKeys, out.Question, rotation.Create)
	case out.New != nil:
		r.New, r.Minted = out.New, true
		return r.afterStaging()
	default:
		wait = time.Duration(out.Wait)
	}
	if f != nil {
		r.stalled(f.text)
	}
	if r.Polls++; r.Polls > pollsUntilDeadline {
		r.setDeadline()
		r.show()
	}
	r.sleep("wait before the next attempt to mint", wait)
	return rotation.Create
}

// afterStaging leaves out the step that a single store does not need.
func (r *rotator) afterStaging() rotation.Phase {
	if len(r.in.Key.Stores) == 1 {
		return rotation.Verify
	}
	return rotation.Store
}

// awaitingKey waits for a person to supply the new key, and checks what was supplied.
func (r *rotator) awaitingKey() rotation.Phase {
	if r.Approved == foreignClaim && r.Supplied != "" {
		// The key that was supplied before the question is still there.
		r.Claim = &rotation.Decision{Kind: rotation.KeySupplied, Message: rotation.Message{By: "rekey", Version: r.Supplied}, At: r.now()}
		r.Supplied = ""
	}
	if !r.early(rotation.KeySupplied) {
		r.waitForPerson(func() bool { return r.Claim != nil })
	}
	switch {
	case r.Wish != nil:
		return rotation.AwaitingKey
	case r.Claim == nil:
		if !r.now().Before(r.Deadline) {
			r.wish(fmt.Sprintf("Nobody supplied a new key until %s.", r.Deadline.Format(time.RFC3339)))
		}
		return rotation.AwaitingKey
	}
	claim := *r.Claim
	r.Claim = nil
	out, f, ok := do[activities.Adopted](r, changing(), "check the supplied key", acts.Adopt, activities.AdoptInput{
		Target: r.target(), Version: claim.Version, Old: r.Old, StartedAt: r.StartedAt, Granted: r.Granted, Exposed: r.Exposed,
	})
	if !ok {
		if f != nil {
			r.Note = "The supplied key could not be checked: " + f.text
		}
		return rotation.AwaitingKey
	}
	if out.Question != "" {
		r.Supplied = claim.Version
		return r.ask(foreignClaim, out.Question, rotation.AwaitingKey)
	}
	if out.Unusable != "" {
		if out.Stays != "" {
			r.Left = append(r.Left, fmt.Sprintf("Version %s was supplied and not used: %s Destroy it, and delete its key, if it is live: %s", out.Stays, out.Unusable, r.Prepared.ProviderConsole))
		}
		r.Note = "The supplied key cannot be used: " + out.Unusable
		return rotation.AwaitingKey
	}
	if r.Claim != nil && r.Claim.Version != claim.Version {
		// Somebody supplied another key while this one was checked: the latest word counts.
		r.Left = append(r.Left, fmt.Sprintf("Version %s was supplied, and another one before it was used. Destroy it, and delete its key, if nobody uses it: %s", out.New.Numbers[0], r.Prepared.ProviderConsole))
		return rotation.AwaitingKey
	}
	r.New, r.Minted = out.New, false
	return r.afterStaging()
}

// store brings the pending value to every other store.
func (r *rotator) store() rotation.Phase {
	out, f, ok := do[activities.Ref](r, changing(), "bring the pending value to every store", acts.Store, activities.StoreInput{Target: r.target(), New: *r.incoming()})
	if !ok {
		if f != nil && r.Reverse {
			return r.cannotReverse(f.text)
		}
		if f != nil {
			return r.giveUp("The new value cannot be stored everywhere: " + f.text)
		}
		return rotation.Store
	}
	*r.incoming() = out
	return rotation.Verify
}

// verify proves the incoming value. A fresh key may be refused for a while; an old one that is refused cannot be
// gone back to.
func (r *rotator) verify() rotation.Phase {
	if r.PatienceUntil.IsZero() {
		r.PatienceUntil = r.now().Add(time.Duration(r.Prepared.Propagation))
	}
	out, f, ok := do[activities.Verified](r, asking(), "prove the value from every store", acts.Verify, activities.VerifyInput{Target: r.target(), Value: *r.incoming()})
	if !ok && f == nil {
		return rotation.Verify
	}
	why := out.Why
	if f != nil {
		why = f.text
	}
	switch {
	case ok && out.OK:
		return rotation.Promote
	case f == nil && !out.Final && r.now().Before(r.PatienceUntil):
		r.stalled(why + " A new key may take a moment to be known everywhere; asking again.")
		r.sleep("ask the provider again", pollInterval(r.Polls))
		r.Polls++
		return rotation.Verify
	case r.Reverse:
		return r.cannotReverse(why)
	default:
		return r.giveUp("The new key did not pass: " + why)
	}
}

// cannotReverse stops a roll-back whose old key cannot be proven, and asks: applications keep the new key meanwhile.
func (r *rotator) cannotReverse(why string) rotation.Phase {
	r.Reverse, r.Outcome, r.Approved, r.Mandate = false, "", "", nil
	return r.ask(noWayBack, "The roll-back cannot go on, and applications keep the new key: "+why+
		" Put that right to try again, or give the old key up.", rotation.Promote)
}

// discard undoes what was done before promote.
func (r *rotator) discard() rotation.Phase {
	out, f, ok := do[activities.Discarded](r, changing(), "discard the new key", acts.Discard, activities.DiscardInput{
		Target: r.target(), New: r.New, Minted: r.Minted,
	})
	switch {
	case !ok && f == nil:
		return rotation.RollingBack
	case f != nil:
		r.stalled(f.text)
		r.sleep("try to discard again", stallInterval(r.Polls))
		r.Polls++
		return rotation.RollingBack
	case out.Published != nil:
		// A reset workflow can come here although the key is out.
		r.Promoting, r.New = true, out.Published
		return r.reverse(rotation.Promote)
	}
	r.swept(out.Retired)
	if out.SweepIn > 0 {
		r.sleep("wait until an abandoned mint can no longer take effect", time.Duration(out.SweepIn))
		return rotation.RollingBack
	}
	return rotation.RolledBack
}

func (r *rotator) swept(out activities.Retired) {
	r.Left = append(r.Left, out.Left...)
	if len(out.Swept) > 0 {
		r.Note = "Deleted keys of abandoned attempts: " + strings.Join(out.Swept, ", ")
	}
}
