package workflows

import (
	"fmt"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// questionKind is what a question is about. Approvals refer to it, and to the ids it names, never to its text, which
// changes with the clock.
type questionKind string

const (
	foreignClaim   questionKind = "foreign-claim"
	unprovenKeys   questionKind = "unproven-keys"
	changedCurrent questionKind = "changed-current"
	revokePolicy   questionKind = "revoke-policy"
	useUnknown     questionKind = "use-unknown"
	keyInUse       questionKind = "key-in-use"
	keysRefused    questionKind = "keys-refused"
	newRefused     questionKind = "new-refused"
	noWayBack      questionKind = "no-way-back"
	notRevoked     questionKind = "not-revoked"
	notCleared     questionKind = "not-cleared"
	notEnabled     questionKind = "not-enabled"
	notDiscarded   questionKind = "not-discarded"
	cannotGoOn     questionKind = "cannot-go-on"
)

// aboutRevoke are the questions whether an outgoing key may go, from the least to the gravest: who approved a graver one
// has approved the others.
var aboutRevoke = []questionKind{revokePolicy, useUnknown, keyInUse}

// OpenQuestion is what a rotation asks a person.
type OpenQuestion struct {
	// ID is the question's own: the kind, the rotation's id, and how many questions of it came before.
	ID   string       `json:"id"`
	Kind questionKind `json:"kind"`
	// About are the ids that it names. Text is for people.
	About []string `json:"about,omitempty"`
	Text  string   `json:"text"`
	// Next is the step that follows an approval.
	Next rotation.Step `json:"next"`
	// Answered: somebody approved, or it is moot.
	Answered bool `json:"answered,omitempty"`
}

// Approvals are the questions of a rotation and what people said to them.
type Approvals struct {
	Count int           `json:"count,omitempty"`
	Open  *OpenQuestion `json:"open,omitempty"`
	// ApprovedQuestions are the questions of activities that were approved.
	ApprovedQuestions []rotation.Ask `json:"approvedQuestions,omitempty"`
	// Signing is what operators sign now, under four eyes, Signed who has. Reverify: the signatures are to be counted by the
	// present list of operators.
	Signing  *rotation.Question  `json:"signing,omitempty"`
	Signed   []rotation.Decision `json:"signed,omitempty"`
	Reverify bool                `json:"reverify,omitempty"`
	// Unsigned: the worker refused to take a key away for want of signatures.
	Unsigned bool `json:"unsigned,omitempty"`
}

// dropSigning forgets what is being signed.
func (a *Approvals) dropSigning() { a.Signing, a.Signed, a.Reverify = nil, nil, false }

// ask waits for a person to approve before the rotation goes on with next.
func (r *runner) ask(kind questionKind, text string, next rotation.Step) rotation.State {
	return r.askAbout(rotation.Ask{Kind: string(kind), Text: text}, next)
}

// askAbout is ask for a question that an activity has put.
func (r *runner) askAbout(q rotation.Ask, next rotation.Step) rotation.State {
	r.Approvals.Count++
	r.Approvals.Open = &OpenQuestion{
		ID: fmt.Sprintf("%s-%s-%d", q.Kind, r.id, r.Approvals.Count), Kind: questionKind(q.Kind), About: q.About, Text: q.Text, Next: next,
	}
	effect, _ := r.answers()
	r.askToSign(rotation.Approve, q.Kind, q.Text, effect)
	return r.to(rotation.StepApproval)
}

// question is the open question, for what only reads it.
func (r *runner) question() OpenQuestion {
	if r.Approvals.Open == nil {
		return OpenQuestion{}
	}
	return *r.Approvals.Open
}

// answers say what an approval and a rejection of the present question do.
func (r *runner) answers() (approve, reject string) {
	back := "return to the old key instead (the new one is discarded)"
	if r.At.Commitment.Published() {
		back = "return to the old key instead (it is proven first; the new one is revoked after another grace period)"
	}
	switch r.question().Kind {
	case foreignClaim:
		return "take it over and go on", "leave it alone and end this rotation, with nothing changed for applications"
	case unprovenKeys:
		return "create another key (what is named above is left alone: deal with it first)", "create none and end this rotation, with nothing changed for applications"
	case revokePolicy, useUnknown:
		return fmt.Sprintf("revoke the %s key (whoever still uses it fails)", r.outgoingWord()), back
	case keyInUse:
		return fmt.Sprintf("revoke the %s key anyway (whoever still uses it fails)", r.outgoingWord()), back
	case keysRefused:
		return "keep watching, once the key that applications read works again", back
	case newRefused:
		return "go on, once the key that applications read works again", back
	case noWayBack:
		return "give up the old key (rekey goes forward and revokes it)", "try the roll-back again, once that is fixed"
	case changedCurrent:
		return "in the end, revoke the key named above as well", back
	case notRevoked, notCleared, notEnabled, notDiscarded, cannotGoOn:
		return "try again, once that is fixed", back
	}
	return "go on", back
}

// approved notes that a person said yes.
func (r *runner) approved() {
	q := r.Approvals.Open
	if q == nil {
		return
	}
	r.Direction.Approved = q.Kind
	if granted := (rotation.Ask{Kind: string(q.Kind), About: q.About}); !granted.In(r.Approvals.ApprovedQuestions) {
		r.Approvals.ApprovedQuestions = append(r.Approvals.ApprovedQuestions, granted)
	}
	q.Answered = true
}

// withdraw takes the open question back: it is moot, also for whoever signs it, and the rotation goes on with a step.
func (r *runner) withdraw(next rotation.Step) {
	if q := r.Approvals.Open; q != nil {
		q.Answered, q.Next = true, next
		r.Approvals.dropSigning()
		r.Poll.At = time.Time{}
	}
}

// awaitApproval waits for approve, reject or an extension of grace. At the deadline the rotation rolls back, if it can;
// otherwise it is overdue and goes on asking.
func (r *runner) awaitApproval() decision {
	if r.countDue() {
		return r.count()
	}
	if !r.question().Answered {
		r.waitForPerson()
	}
	return func() rotation.State {
		q := r.question()
		switch {
		case q.Answered && q.Next == rotation.StepDelete:
			return r.deleting()
		case q.Answered && q.Kind == noWayBack:
			// The old key is given up. The way back may have begun to take the new one away: it is proven once more.
			return rotation.State{Step: rotation.StepVerify, Commitment: rotation.ForwardOnly}
		case q.Answered:
			return r.to(q.Next)
		case r.deadlineEnds():
			r.nobodyActed()
		default:
			// The list of operators may have become old.
			r.Approvals.Reverify = r.fourEyes() && r.Approvals.Signing != nil
		}
		return r.stay()
	}
}

// approval asks a person before the revoke. Guard looks again after the answer, and asks anew only about what is graver
// than what was approved.
func (r *runner) approval(kind questionKind, text string) rotation.State {
	if slices.Index(aboutRevoke, r.Direction.Approved) >= slices.Index(aboutRevoke, kind) && (!r.fourEyes() || r.hasSignedApproval()) {
		return r.revoking()
	}
	return r.ask(kind, text, rotation.StepGuard)
}
