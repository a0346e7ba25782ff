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

// fourEyes tells whether approvals take the signatures of two operators now. Who signs comes from the worker's own
// rekey.yaml. An emergency does not wait for a second person.
func (r *rotator) fourEyes() bool { return len(r.Prepared.Signers) > 0 && !r.emergency() }

// signs tells whether a kind of decision must be signed now.
func (r *rotator) signs(kind rotation.Kind) bool {
	return r.fourEyes() && (kind == rotation.Approve || kind == rotation.FinishGrace)
}

// pose puts a question that operators sign. What was signed for another one counts no more.
func (r *rotator) pose(kind rotation.Kind, about, text, effect string) {
	r.Asked, r.Signed, r.Recount = nil, nil, false
	if !r.fourEyes() {
		return
	}
	r.Questions++
	info := workflow.GetInfo(r.ctx)
	q := rotation.Question{
		Namespace: info.Namespace, Workflow: info.WorkflowExecution.ID, Rotation: r.id, Key: r.in.Key.Name, Number: r.Questions,
		Kind: kind, About: about, Text: text, Effect: effect, Asked: r.now(),
	}
	for _, o := range r.outgoing() {
		q.Revokes = append(q.Revokes, o.Name())
	}
	// The list of operators may be days old.
	r.Asked, r.Recount = &q, true
}

// poseFinish puts the question that nobody has to answer: may the grace period end now?
func (r *rotator) poseFinish() {
	r.pose(rotation.FinishGrace, "grace", fmt.Sprintf("Old and new key of %s both work. End the grace period now?", r.in.Key.Name),
		fmt.Sprintf("end the grace period, after which the %s key can be revoked (whoever still uses it fails)", r.otherDirection()))
}

// signer tells who signed a decision; nil if it need not be signed. A *rotation.Refusal says why a signature does not
// count.
func (r *rotator) signer(kind rotation.Kind, m rotation.Message) (*rotation.Signer, error) {
	if !r.signs(kind) {
		return nil, nil
	}
	if r.Asked == nil || r.Asked.Kind != kind {
		return nil, &rotation.Refusal{Message: fmt.Sprintf("there is nothing left to sign for %s: two operators have", kind)}
	}
	s, err := signed.Check(*r.Asked, m, r.Prepared.Signers, r.Signed, r.now())
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// recount reads who may sign now, and lets the decision pass if two of those have signed. It is false when that could not
// be read; then nothing passes.
func (r *rotator) recount() bool {
	r.Recount = false
	if r.Asked == nil || !r.fourEyes() {
		return true
	}
	var now []rotation.Operator
	if f := r.once(asking(), "who may sign?", acts.Signers, r.target(), &now); f != nil {
		r.stalled("Who may sign could not be read from the worker's rekey.yaml: " + f.text)
		r.Recount = true
		return false
	}
	r.stalled("")
	r.Prepared.Signers = now
	if r.Asked == nil {
		return true // answered otherwise meanwhile
	}
	before := r.Signed
	r.Signed = signed.Count(*r.Asked, r.Signed, now)
	for _, d := range before {
		if !slices.ContainsFunc(r.Signed, func(c rotation.Decision) bool { return c.Signature == d.Signature }) {
			r.Note = fmt.Sprintf("The signature of %s does not count any more: the worker's rekey.yaml does not name that key now.", d.By)
		}
	}
	if len(r.Signed) >= rotation.Eyes {
		r.agreed()
	}
	r.show()
	return true
}

// agreed carries out what two operators have signed.
func (r *rotator) agreed() {
	q, decisions := *r.Asked, r.Signed
	r.Asked, r.Signed = nil, nil
	if q.Kind == rotation.FinishGrace {
		r.finishGrace()
		return
	}
	if slices.Contains(activities.RevokeSubjects, q.About) {
		r.Mandate = &rotation.Approval{Question: q, Decisions: decisions}
	}
	r.grant()
}

// mandated tells whether two operators have signed that all outgoing keys may go. The worker that takes them away looks
// at the signatures itself.
func (r *rotator) mandated() bool {
	return r.Mandate != nil && !slices.ContainsFunc(r.outgoing(), func(o activities.Ref) bool {
		return !slices.Contains(r.Mandate.Question.Revokes, o.Name())
	})
}

// unmandated asks anew after the worker refused to take a key away for want of signatures: an operator was removed, or
// four eyes were asked for after this rotation began.
func (r *rotator) unmandated(f *failure) (rotation.Phase, bool) {
	var now []rotation.Operator
	if r.once(asking(), "who may sign?", acts.Signers, r.target(), &now) != nil || len(now) == 0 {
		return "", false
	}
	r.Prepared.Signers, r.Mandate, r.Approved = now, nil, ""
	r.Note = f.text
	return rotation.Guard, true
}

// raisedBy is who raised the emergency that nobody had to sign for.
func (r *rotator) raisedBy() string {
	if !r.emergency() {
		return ""
	}
	for _, l := range r.Leaks {
		if l.By != "" {
			return l.By
		}
	}
	return "somebody"
}

// withoutFourEyes leaves a note for whoever looks at the result, where an emergency took a key away that two operators
// would have had to agree to.
func (r *rotator) withoutFourEyes() {
	if len(r.Prepared.Signers) == 0 || !r.emergency() || r.mandated() {
		return
	}
	why, at := "", r.StartedAt
	for _, l := range r.Leaks {
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
	r.Left = append(r.Left, text+". Look whether it was one: who raised it is a claim.")
}

// signing is how far the present question has come; nil if nothing is signed now.
func (r *rotator) signing() *rotation.Signing {
	if !r.fourEyes() || r.Asked == nil {
		return nil
	}
	return &rotation.Signing{Question: *r.Asked, Needed: rotation.Eyes, Signed: r.Signed}
}

// signedLine says who has signed the present question.
func (r *rotator) signedLine() string {
	s := rotation.Signing{Signed: r.Signed}
	if names := s.Names(); len(names) > 0 {
		return fmt.Sprintf("%d of %d: %s", len(names), rotation.Eyes, escape(strings.Join(names, ", ")))
	}
	return "nobody yet"
}

// both says how two operators take a decision.
func (r *rotator) both(command string) string {
	return fmt.Sprintf("two different operators run `%s`, which signs with their SSH keys. Signed: %s. This page cannot sign: an update from here is refused.", command, r.signedLine())
}
