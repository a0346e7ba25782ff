package workflows

import (
	"fmt"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// create mints and stages.
func (r *runner) create() decision {
	out, f, ok := runStep[activities.Created](r, noRetry(), "create a key and stage it", activities.CreateName, activities.CreateInput{
		Target: r.target(), StartedAt: r.Progress.StartedAt, ApprovedQuestions: r.Approvals.ApprovedQuestions, Predecessors: r.Carry.Predecessors,
		Replace: r.Keys.Refused,
	})
	if ok && out.New != nil {
		r.Keys.New, r.Keys.Minted = out.New, true
	}
	return func() rotation.State {
		switch {
		case f != nil:
			return r.giveUp("No new key could be created: "+f.text, rotation.StepCreate)
		case !ok:
			return r.stay()
		case out.Question != nil:
			return r.askAbout(*out.Question, rotation.StepCreate)
		case out.New != nil:
			return r.to(r.afterStaging())
		}
		return r.waitOut(time.Duration(out.Wait), "An attempt to create a key was not answered; rekey creates another one when the first can no longer take effect.")
	}
}

// waitOut polls when an abandoned request can no longer take effect. What is waited out again and again, a person learns of.
func (r *runner) waitOut(d time.Duration, why string) rotation.State {
	expected := r.now().Add(d + time.Duration(r.Keys.Prepared.Horizon))
	if r.Poll.WaitingOut {
		expected = r.Poll.ExpectedUntil
	}
	r.Poll.WaitingOut = true
	return r.pollAgain(d, poll{why: why, summary: "wait until an abandoned request can no longer take effect", expected: expected})
}

// waitedOut reports whether the step has just waited until an abandoned request could no longer take effect; what is expected
// of the step begins anew.
func (r *runner) waitedOut() bool {
	waited := r.Poll.WaitingOut
	if waited {
		r.Poll = Poll{}
	}
	return waited
}

// afterStaging leaves out the step that a single store does not need.
func (r *runner) afterStaging() rotation.Step {
	if len(r.in.Key.Stores) == 1 {
		return rotation.StepVerify
	}
	return rotation.StepStore
}

// awaitKey waits for a person to supply the new key.
func (r *runner) awaitKey() decision {
	if r.Inbox.Claim == nil && !r.takeEarly(rotation.KeySupplied) {
		r.waitForPerson()
	}
	return func() rotation.State {
		switch {
		case r.Inbox.Claim != nil:
			r.Inbox.Adopting = r.Inbox.Claim
			r.Inbox.Claim = nil
			return r.to(rotation.StepAdopt)
		case r.deadlineEnds():
			r.nobodyActed()
		}
		return r.stay()
	}
}

// adopt checks the key that a person supplied.
func (r *runner) adopt() decision {
	version, fingerprint := r.Inbox.Adopting.Version, r.Inbox.Adopting.Fingerprint
	out, f, ok := runStep[activities.Adopted](r, writeRetry(), "check the supplied key", activities.AdoptName, activities.AdoptInput{
		Target: r.target(), Version: version, Old: r.Keys.Old, StartedAt: r.Progress.StartedAt, ApprovedQuestions: r.Approvals.ApprovedQuestions,
		Fingerprint: fingerprint, Predecessors: r.Carry.Predecessors, LeakedFingerprints: r.Carry.LeakedFingerprints,
	})
	console := r.Keys.Prepared.ProviderConsole
	switch {
	case ok && out.New != nil:
		r.Keys.New, r.Keys.Minted = out.New, false
	case ok && out.Stays != "":
		r.followUp(fmt.Sprintf("Version %s was supplied and not used: %s Destroy it, and delete its key, if it is live: %s", out.Stays, out.Unusable, console))
	}
	return func() rotation.State {
		later := r.Inbox.Claim != nil && (r.Inbox.Claim.Version != version || r.Inbox.Claim.Fingerprint != fingerprint)
		switch {
		case f != nil:
			r.Progress.Note = "The supplied key could not be checked: " + f.text
			return r.to(rotation.StepAwaitKey)
		case !ok && (later || r.expired()):
			return r.to(rotation.StepAwaitKey)
		case !ok:
			return r.stay()
		case out.Question != nil && later:
			r.supplanted(version, r.Inbox.Claim.Version)
			return r.to(rotation.StepAwaitKey) // what is asked about is asked again
		case out.Question != nil:
			return r.askAbout(*out.Question, rotation.StepAdopt)
		case out.Unusable != "":
			r.Progress.Note = "The supplied key cannot be used: " + out.Unusable
			return r.to(rotation.StepAwaitKey)
		case later:
			// Somebody supplied another key while this one was checked: the latest one counts.
			r.supplanted(out.New.Numbers[0], r.Inbox.Claim.Version)
			r.Keys.New = nil
			return r.to(rotation.StepAwaitKey)
		}
		r.Inbox.Claim = nil // the same once more
		return r.to(r.afterStaging())
	}
}

// supplanted leaves a version to a person that was supplied before another one, and not used.
func (r *runner) supplanted(version, by string) {
	if version != "" && version != by {
		r.followUp(fmt.Sprintf("Version %s was supplied, but an earlier one was used. Destroy it, and delete its key, if nobody uses it: %s", version, r.Keys.Prepared.ProviderConsole))
	}
}

// discard undoes what was done before promote.
func (r *runner) discard() decision {
	out, f, ok := runStep[activities.Discarded](r, writeRetry(), "discard the new key", activities.DiscardName, activities.DiscardInput{
		Target: r.target(), Predecessors: r.Carry.Predecessors,
	})
	if n := r.Keys.New; ok && n != nil && !r.Keys.Minted && out.Published == nil && len(out.FollowUps) == 0 {
		// An earlier try has cleared the record, and its answer was lost.
		r.followUp(fmt.Sprintf("The supplied key %s is not used, and rekey deletes no key that it did not make. Delete it at %s, if it is live: %s", n.Name(), r.in.Key.Provider, r.Keys.Prepared.ProviderConsole))
	}
	r.noteSwept(out.Retired)
	return func() rotation.State {
		switch {
		case f != nil:
			return r.ask(notDiscarded, "The new key could not be discarded: "+f.text+" Fix that, then approve to try again.", rotation.StepDiscard)
		case !ok:
			return r.stay()
		case out.Published != nil:
			// A workflow that was reset can come here although the key is out.
			r.Keys.New = out.Published
			if r.emergency() || !r.oldWorks() {
				r.Progress.Note, r.Progress.Outcome = "Applications read the new key already, and there is no old key that works to go back to. ("+r.Progress.Outcome+")", ""
				return rotation.State{Step: rotation.StepVerify, Commitment: rotation.ForwardOnly}
			}
			// Nobody knows any more whether the old key was disabled.
			r.Keys.DisableAsked = r.Keys.Prepared.CanDisable
			return r.reverse()
		}
		if out.SweepIn > 0 {
			return r.waitOut(time.Duration(out.SweepIn), "An attempt to create a key was not answered; what it may leave is cleaned up when it can no longer take effect.")
		}
		return r.to(rotation.StepRolledBack)
	}
}

func (r *runner) noteSwept(out activities.Retired) {
	for _, text := range out.FollowUps {
		r.followUp(text)
	}
	if len(out.Swept) > 0 {
		r.Progress.Note = "Deleted keys left by abandoned attempts: " + strings.Join(out.Swept, ", ")
	}
}
