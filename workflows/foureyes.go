package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// fourEyes reports whether approvals take the signatures of two operators now. Who signs comes from the worker's own
// rekey.yaml. An emergency does not wait for a second person.
func (r *runner) fourEyes() bool { return len(r.Keys.Prepared.Signers) > 0 && !r.emergency() }

// signs reports whether a kind of decision must be signed now.
func (r *runner) signs(kind rotation.DecisionKind) bool {
	return r.fourEyes() && (kind == rotation.Approve || kind == rotation.FinishGrace)
}

// askToSign puts a question that operators sign. What was signed for another one counts no more.
func (r *runner) askToSign(kind rotation.DecisionKind, about, text, effect string) {
	r.Approvals.dropSigning()
	if !r.fourEyes() {
		return
	}
	r.Progress.Questions++
	info := workflow.GetInfo(r.ctx)
	q := rotation.Question{
		Namespace: info.Namespace, Workflow: info.WorkflowExecution.ID, Rotation: r.id, Key: r.in.Key.Name, Number: r.Progress.Questions,
		Kind: kind, Subject: about, Text: text, Effect: effect, Asked: r.now(),
	}
	for _, o := range r.outgoing() {
		q.Revokes = append(q.Revokes, o.Name())
	}
	// The list of operators may be days old.
	r.Approvals.Signing, r.Approvals.Reverify = &q, true
}

// askToFinish puts the question that nobody has to answer: may the grace period end now?
func (r *runner) askToFinish() {
	r.askToSign(rotation.FinishGrace, "grace", fmt.Sprintf("Old and new key of %s both work. End the grace period now?", r.in.Key.Name),
		fmt.Sprintf("end the grace period, after which the %s key can be revoked (whoever still uses it fails)", r.outgoingWord()))
}

// signer returns who signed a decision; nil if it need not be signed. A *rotation.RejectedDecision says why a signature does not
// count.
func (r *runner) signer(kind rotation.DecisionKind, m rotation.DecisionMessage) (*rotation.Signer, error) {
	if !r.signs(kind) {
		return nil, nil
	}
	if r.Approvals.Signing == nil || r.Approvals.Signing.Kind != kind {
		return nil, &rotation.RejectedDecision{Message: fmt.Sprintf("there is nothing left to sign for %s: two operators have", kind)}
	}
	s, err := signed.Check(*r.Approvals.Signing, m, r.Keys.Prepared.Signers, r.Approvals.Signed, r.now())
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// countDue reports whether the signatures are to be counted before anything else.
func (r *runner) countDue() bool {
	return (r.Approvals.Reverify || r.Approvals.Unsigned) && !r.emergency()
}

// count reads who may sign now, and lets what they signed pass if there are two of them. Nothing passes while that cannot
// be read.
func (r *runner) count() decision {
	r.Approvals.Reverify = false // a signature that comes meanwhile is counted again
	var operators []rotation.Operator
	f := r.runOnce(readRetry(), "who may sign?", activities.SignersName, r.target(), &operators)
	return func() rotation.State {
		if f != nil {
			return r.notCounted(f)
		}
		r.Keys.Prepared.Signers = operators
		if r.Approvals.Unsigned {
			r.Approvals.Unsigned = false
			if len(operators) == 0 {
				return r.ask(notRevoked, "The old key could not be revoked: "+r.Progress.Note+" Fix that, then approve to try again.", rotation.StepGuard)
			}
		}
		if q := r.Approvals.Signing; q != nil {
			r.countSignatures(*q)
		}
		return r.stay()
	}
}

// notCounted goes on without a count. The grace period takes its time, and counts again with the next look at the key.
func (r *runner) notCounted(f *failure) rotation.State {
	why := "Who may sign could not be read from the worker's rekey.yaml: " + f.text
	if r.At.Step == rotation.StepGrace {
		r.Direction.Trouble = why
		return r.stay()
	}
	if r.At.Step == rotation.StepApproval && r.question().Answered {
		return r.stay() // the question was withdrawn meanwhile: nothing is left to count
	}
	r.Approvals.Reverify = true
	return r.pollAgain(min(15*time.Second<<min(r.Poll.Count, 10), 6*time.Hour), poll{why: why, summary: "read again who may sign"})
}

// countSignatures drops the signatures that do not count any more, and carries out what two operators have signed.
func (r *runner) countSignatures(q rotation.Question) {
	before := r.Approvals.Signed
	r.Approvals.Signed = signed.Count(q, before, r.Keys.Prepared.Signers)
	for _, d := range before {
		if !slices.ContainsFunc(r.Approvals.Signed, func(c rotation.Decision) bool { return c.Signature == d.Signature }) {
			r.Progress.Note = fmt.Sprintf("The signature of %s no longer counts: the worker's rekey.yaml does not name that key now.", d.By)
		}
	}
	decisions := r.Approvals.Signed
	if len(decisions) < rotation.Eyes {
		return
	}
	r.Approvals.dropSigning()
	if q.Kind == rotation.FinishGrace {
		r.finishGrace()
		return
	}
	if slices.Contains(activities.RevokeSubjects, q.Subject) {
		r.Direction.SignedApproval = &rotation.Approval{Question: q, Decisions: decisions}
	}
	r.approved()
}

// hasSignedApproval reports whether two operators have signed that all outgoing keys may go. The worker that takes them away looks
// at the signatures itself.
func (r *runner) hasSignedApproval() bool {
	return r.Direction.SignedApproval != nil && !slices.ContainsFunc(r.outgoing(), func(o activities.Ref) bool {
		return !slices.Contains(r.Direction.SignedApproval.Question.Revokes, o.Name())
	})
}

// raisedBy is who raised the emergency that nobody had to sign for.
func (r *runner) raisedBy() string {
	if !r.emergency() {
		return ""
	}
	for _, l := range r.Emergency.Leaks {
		if l.By != "" {
			return l.By
		}
	}
	return "somebody"
}

// noteWithoutFourEyes leaves a note for whoever looks at the result, where an emergency took a key away that two operators
// would have had to agree to.
func (r *runner) noteWithoutFourEyes() {
	if len(r.Keys.Prepared.Signers) == 0 || !r.emergency() || r.hasSignedApproval() {
		return
	}
	why, at := "", r.Progress.StartedAt
	for _, l := range r.Emergency.Leaks {
		why, at = l.Why, l.At
		break
	}
	var names []string
	for _, o := range r.outgoing() {
		names = append(names, o.Name())
	}
	text := fmt.Sprintf("Revoked without four eyes: %s. Emergency by %s at %s", strings.Join(names, ", "), r.raisedBy(), at.UTC().Format(time.RFC3339))
	if why != "" {
		text += " (" + why + ")"
	}
	r.followUp(text + ". Check whether it was one: who raised it is a claim.")
}

// signing is how far the present question has come; nil if nothing is signed now.
func (r *runner) signing() *rotation.Signing {
	if !r.fourEyes() || r.Approvals.Signing == nil {
		return nil
	}
	return &rotation.Signing{Question: *r.Approvals.Signing, Needed: rotation.Eyes, Signed: r.Approvals.Signed}
}
