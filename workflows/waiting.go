package workflows

import (
	"fmt"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// reminderInterval is how often a wait for a person is shown anew, where no channel is told.
const reminderInterval = 24 * time.Hour

// subject is what a question is about. An approval is remembered by it, because the words change with the clock.
type subject string

const (
	foreignClaim subject = "foreign-claim"
	unprovenKeys subject = "unproven-keys"
	revokePolicy subject = "revoke-policy"
	useUnknown   subject = "use-unknown"
	keyInUse     subject = "key-in-use"
	keysRefused  subject = "keys-refused"
	newRefused   subject = "new-refused"
	noWayBack    subject = "no-way-back"
	notRevoked   subject = "not-revoked"
	notCleared   subject = "not-cleared"
	cannotGoOn   subject = "cannot-go-on"
)

// ask waits for a person to approve before the rotation goes on with next.
func (r *rotator) ask(about subject, question string, next rotation.Phase) rotation.Phase {
	r.About, r.Question, r.After = about, question, next
	r.newWait()
	effect, _ := r.answers()
	r.pose(rotation.Approve, string(about), question, effect)
	return rotation.AwaitingApproval
}

// awaitingApproval waits for approve, reject or an extension of grace. At the deadline the rotation rolls back, if
// it can; otherwise it is overdue and goes on asking.
func (r *rotator) awaitingApproval() rotation.Phase {
	if r.Recount && !r.recount() {
		r.sleep("read again who may sign", stallInterval(r.Polls))
		r.Polls++
	}
	r.waitForPerson(func() bool { return r.Question == "" || r.Recount })
	// Whoever was made an operator meanwhile can sign from the next reminder on.
	r.Recount = r.fourEyes() && r.Asked != nil
	switch {
	case r.Wish != nil:
		return rotation.AwaitingApproval
	case r.Question == "":
		return r.After
	}
	if !r.now().Before(r.Deadline) && r.rollsBackAtDeadline() {
		who := "Nobody"
		if len(r.Signed) > 0 {
			who = fmt.Sprintf("Only %d of %d operators (%s)", len(r.Signed), rotation.Eyes, strings.Join(rotation.Signing{Signed: r.Signed}.Names(), ", "))
		}
		r.wish(who + " approved until " + r.Deadline.Format(time.RFC3339) + ": " + r.Question)
	}
	return rotation.AwaitingApproval
}

// rollsBackAtDeadline: UnknownNever keeps the old key for ever rather than decide by itself.
func (r *rotator) rollsBackAtDeadline() bool {
	never := r.After == rotation.Guard && r.in.Key.Policy.UnknownUse == rotation.UnknownNever
	return !never && !r.Reverse && !r.Irreversible
}

// goesBack tells whether the present wait rolls the rotation back at its deadline; any other is overdue from then on.
func (r *rotator) goesBack() bool {
	return r.Step == rotation.AwaitingKey && !r.Irreversible || r.Step == rotation.AwaitingApproval && r.rollsBackAtDeadline()
}

// waitForPerson waits until the condition holds, the deadline passes, or somebody is to be told. The deadline is set
// once, and shown.
func (r *rotator) waitForPerson(condition func() bool) {
	r.setDeadline()
	moment := r.nextWord()
	if r.now().Before(r.Deadline) && r.Deadline.Before(moment) {
		moment = r.Deadline
	}
	urgent := r.emergency()
	r.until("waits for a person: what to do stands under User Metadata", moment, func() bool { return condition() || r.emergency() != urgent })
	if len(r.Lines) == 0 && !condition() && !r.now().Before(moment) {
		r.Reminders++
		r.show()
	}
}

// setDeadline begins the patience with whoever has to act, if it has not begun, and tells who is to be told now.
func (r *rotator) setDeadline() {
	if r.Deadline.IsZero() {
		r.Began = r.now()
		r.Deadline = r.Began.Add(time.Duration(r.in.Key.Policy.Patience))
		r.upsert(DeadlineAttribute.ValueSet(r.Deadline))
		r.show()
	}
	r.tell()
}

// extendWait moves the deadline, and with it what is still to be told.
func (r *rotator) extendWait(until time.Time) {
	w := r.wait()
	by := w.Extend(until, r.now())
	r.Deadline, r.Extended = w.Deadline, w.Extended
	for i := range r.Lines {
		r.Lines[i].Extend(by)
	}
	r.upsert(DeadlineAttribute.ValueSet(r.Deadline))
}

// newWait forgets the wait before, so that the next one begins with all its patience.
func (r *rotator) newWait() {
	r.Deadline, r.Began, r.Extended, r.Reminders = time.Time{}, time.Time{}, 0, 0
	r.tellNoMore()
}

// noDeadline takes the deadline away, also from the list: what is over is not overdue.
func (r *rotator) noDeadline() {
	if !r.Deadline.IsZero() {
		r.newWait()
		r.upsert(DeadlineAttribute.ValueUnset())
	}
}

// stalled says in the details why the present step does not get on; empty when it does.
func (r *rotator) stalled(why string) {
	if r.Stall == why {
		return
	}
	r.Stall = why
	if why != "" {
		r.list()
	}
	r.show()
}
