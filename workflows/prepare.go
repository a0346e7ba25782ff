package workflows

import (
	"strings"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// conflicts checks whether a key that must not be rotated together with this one is rotating now. An emergency does not
// give way.
func (r *runner) conflicts() decision {
	if r.emergency() {
		return func() rotation.State { return r.to(rotation.StepPrepare) }
	}
	other, f, ok := runStep[string](r, readRetry(), "check whether a key that conflicts with this one is rotating now", activities.ConflictName, r.target())
	return func() rotation.State {
		switch {
		case r.emergency():
			return r.to(rotation.StepPrepare)
		case f != nil:
			return r.notPossible(f)
		case !ok || r.changed():
			return r.stay()
		case other == "":
			return r.to(rotation.StepPrepare)
		}
		r.Progress.NotDue, r.Progress.Outcome = true, "Not due: "+r.in.Key.Name+" conflicts with "+other+", which is rotating now."
		return r.to(rotation.StepCompleted)
	}
}

// prepare looks before anything changes.
func (r *runner) prepare() decision {
	out, f, ok := runStep[activities.Prepared](r, readRetry(), "check provider and stores", activities.PrepareName, activities.PrepareInput{
		Target: r.target(), Reason: r.in.Reason, StartedAt: r.Progress.StartedAt, ApprovedQuestions: r.Approvals.ApprovedQuestions, Leaked: r.leakedNames(),
		Predecessors: r.Carry.Predecessors, Revoked: r.Carry.Revoked,
	})
	if ok {
		// Kept also if the decision is not taken: a rotation that is cancelled meanwhile, and was reset before, can find that
		// its key is out already, and goes on from what was found here.
		r.Keys.Prepared, r.Keys.Old, r.Keys.New = out, out.Old, out.New
	}
	return func() rotation.State {
		switch {
		case r.changed():
			return r.stay() // what it rests on has changed: look again
		case f != nil:
			return r.notPossible(f)
		case !ok:
			return r.stay()
		}
		r.noteUnknown(out.Unknown)
		switch {
		case out.Wait > 0:
			return r.waitOut(time.Duration(out.Wait), "A request to revoke what applications read may still take effect. rekey waits until it no longer can.")
		case out.StartAnew:
			r.Inbox.Again = true // under this rotation's id that key would be found as staged
			return r.stay()
		case out.Question != nil:
			return r.askAbout(*out.Question, rotation.StepPrepare)
		case out.NothingKnown && out.Verdict.Work == rotation.Finish:
			r.endEmergency()
		}
		switch out.Verdict.Work {
		case rotation.Nothing:
			return r.nothingDue()
		case rotation.Finish:
			return r.finishEarlier()
		}
		if r.containsFirst() {
			return rotation.State{Step: rotation.StepContain, Commitment: rotation.ForwardOnly}
		}
		return rotation.State{Step: r.making(), Commitment: rotation.Staged}
	}
}

// making is the step that gets a new key.
func (r *runner) making() rotation.Step {
	if r.Keys.Prepared.SupplyByHand {
		return rotation.StepAwaitKey
	}
	return rotation.StepCreate
}

// nothingDue ends a rotation that has nothing to do.
func (r *runner) nothingDue() rotation.State {
	out := r.Keys.Prepared
	r.Progress.NotDue, r.Progress.Outcome = true, "Not due: "+out.Verdict.Message
	if r.emergency() {
		r.Progress.Outcome = out.Verdict.Message
	}
	if r.Carry.Unknown {
		r.Progress.Outcome = "Nothing was changed: what was named is unknown. " + strings.Join(out.Unknown, " ")
	}
	if len(r.Carry.Predecessors) > 0 {
		return rotation.State{Step: rotation.StepRetire, Commitment: rotation.ForwardOnly}
	}
	return r.to(rotation.StepCompleted)
}

// finishEarlier takes up what a rotation before this one left: it published the new value. When is not known for sure, so
// grace begins again, behind a promote that writes down what must go, and clears what was left half-way.
func (r *runner) finishEarlier() rotation.State {
	r.Inbox.Again = r.Keys.Prepared.RotateAfter
	return rotation.State{Step: rotation.StepPromote, Commitment: rotation.ForwardOnly}
}

// endEmergency makes an emergency that named nothing known an ordinary rotation: a slip of the pen must not end the grace
// period of what did not leak. The result says that the names are not known.
func (r *runner) endEmergency() {
	r.in.Reason, r.Emergency = rotation.Manual, EmergencyState{}
	r.upsert(ReasonAttribute.ValueSet(string(r.in.Reason)))
}

// notPossible ends a rotation that has changed nothing.
func (r *runner) notPossible(f *failure) rotation.State {
	r.Progress.Outcome = f.text
	r.followUp("Nothing was changed. " + f.text)
	return r.nothingChanged()
}

// noteUnknown keeps what nobody could find for the result.
func (r *runner) noteUnknown(sentences []string) {
	for _, s := range sentences {
		r.Carry.Unknown = true
		r.followUp(s)
	}
}
