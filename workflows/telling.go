package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// line is one channel of the policy: how far the telling is, and what came of it.
type line struct {
	rotation.Contact
	Told rotation.Told `json:"told"`
	// Asked: something of this rotation was sent there, so its end is told there too.
	Asked bool `json:"asked,omitempty"`
	// Pending is what is being told. A run that continues this one tells it again, with the same id.
	Pending *rotation.Notice `json:"pending,omitempty"`
}

// lines are those of a rotation that begins, with what an earlier one in the same workflow has told.
func lines(in Input) []line {
	var all []line
	for i, c := range in.Key.Policy.Channels() {
		l := line{Contact: rotation.Contact{Channel: c, Second: i >= len(in.Key.Policy.Notify)}, Told: rotation.Told{Channel: c.Name}}
		for _, before := range in.Lines {
			if before.Name == c.Name {
				l.Told, l.Asked = before.Told, before.Asked
			}
		}
		all = append(all, l)
	}
	return all
}

// wait is the present wait, as far as telling people goes.
func (r *rotator) wait() rotation.Wait {
	p := r.in.Key.Policy
	return rotation.Wait{
		Began: r.Began, Deadline: r.Deadline, Extended: r.Extended, Remind: p.RemindAfter(), EscalateAfter: p.EscalatesAfter(), Alone: len(p.Escalate) == 0,
	}
}

// tell tells the channels that are to be told now. It does not wait for them: a channel that is down holds no rotation.
func (r *rotator) tell() {
	if r.goesBack() && !r.now().Before(r.Deadline) {
		return // it rolls back, and that is told
	}
	var due []int
	var abouts []rotation.About
	for i, l := range r.Lines {
		if at, about := r.wait().Next(l.Contact, r.now(), r.hours()); !at.After(r.now()) {
			due, abouts = append(due, i), append(abouts, about)
			r.Lines[i].Count, r.Lines[i].Since, r.Lines[i].Overdue = l.Count+1, r.now(), about == rotation.AboutOverdue
		}
	}
	if len(due) == 0 {
		return
	}
	r.Words++
	if slices.ContainsFunc(abouts, func(a rotation.About) bool { return a != rotation.AboutNeeded }) {
		r.Reminders++
	}
	for n, i := range due {
		notice := r.notice(abouts[n])
		notice.Need, notice.Command = r.need()
		notice.Deadline, notice.Then = r.Deadline, r.meanwhileTold()
		for o, other := range r.Lines {
			if o != i && other.Count > 0 && other.Told.Problem == "" {
				notice.Told = append(notice.Told, other.Name)
			}
		}
		r.Lines[i].Pending = &notice
		r.deliver(i)
	}
	r.show()
}

// hours tell when a channel may be told; an emergency knows none.
func (r *rotator) hours() func(rotation.Channel, time.Time) time.Time {
	if r.emergency() {
		return nil
	}
	return func(c rotation.Channel, t time.Time) time.Time {
		// Of a moment between the last question and its answer the answer is known.
		if a := r.opens[c.Name]; !a.asked.IsZero() && !t.Before(a.asked) && !t.After(a.open) {
			return a.open
		}
		a := answer{t, opens(r.ctx, c, t)}
		r.opens[c.Name] = a
		return a.open
	}
}

// answer is when a channel may be told, asked of a moment.
type answer struct{ asked, open time.Time }

// opens is when a channel may be told, from t on. What the clocks of a zone show depends on the machine's time zone data,
// and another worker may replay this with others: the first one's answer stays.
func opens(ctx workflow.Context, c rotation.Channel, t time.Time) time.Time {
	if c.Hours.Zone == "" || c.Hours.Zone == "UTC" {
		return c.After(t)
	}
	open := t
	if workflow.SideEffect(ctx, func(workflow.Context) any { return c.After(t) }).Get(&open) != nil {
		return t
	}
	return open
}

// nextWord is when a channel is to be told next; without channels, when the wait is shown anew.
func (r *rotator) nextWord() time.Time {
	if len(r.Lines) == 0 {
		return r.now().Add(reminderInterval)
	}
	var first time.Time
	for _, l := range r.Lines {
		if at, _ := r.wait().Next(l.Contact, r.now(), r.hours()); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// tellAgain tells what a run before this one was about to tell when it was continued.
func (r *rotator) tellAgain() {
	for i, l := range r.Lines {
		if l.Pending != nil {
			r.deliver(i)
		}
	}
}

// tellNoMore stops what is being told: it is over. What is on its way may still arrive.
func (r *rotator) tellNoMore() {
	for i := range r.Lines {
		l := &r.Lines[i]
		if l.Pending != nil {
			l.Pending = nil
			if stop := r.hush[l.Name]; stop != nil {
				stop()
			}
		}
		l.Contact = rotation.Contact{Channel: l.Channel, Second: l.Second}
	}
}

// deliver sends what is pending on a line, in the place of what may still be under way there.
func (r *rotator) deliver(i int) {
	l := &r.Lines[i]
	if stop := r.hush[l.Name]; stop != nil {
		stop()
	}
	notice := *l.Pending
	ctx, stop := workflow.WithCancel(notifying(r.ctx, r.in.Reason, l.Name, notice.About))
	l.Asked, r.hush[l.Name] = true, stop
	sent := workflow.ExecuteActivity(ctx, acts.Notify, activities.NotifyInput{
		Target: r.target(), Channel: l.Name, Notice: notice, Workflow: workflow.GetInfo(r.ctx).WorkflowExecution.ID,
	})
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		err := sent.Get(ctx, nil)
		if l := &r.Lines[i]; l.Pending != nil && l.Pending.ID == notice.ID {
			l.Pending = nil
			l.Told = outcome(l.Told, notice.About, workflow.Now(ctx), err)
			r.show()
		}
	})
}

// outcome is what is known of a channel after a try to tell it.
func outcome(before rotation.Told, about rotation.About, now time.Time, err error) rotation.Told {
	switch {
	case err == nil:
		return rotation.Told{Channel: before.Channel, At: now, About: about}
	case !temporal.IsCanceledError(err):
		before.Problem = failed(err).text
	}
	return before
}

// notice is one about this rotation, as it stands.
func (r *rotator) notice(about rotation.About) rotation.Notice {
	k := r.in.Key
	n := rotation.Notice{
		ID: fmt.Sprintf("%s-%s-%d", r.id, r.phase(), r.Words), About: about, At: r.now(),
		Key: k.Name, Provider: k.Provider, Tier: k.Tier, Rotation: r.id, Reason: r.in.Reason, Phase: r.phase(),
	}
	if r.HandedOver != nil {
		n.Note = r.HandedOver.By + ": " + r.HandedOver.Why
	}
	return n
}

// need says in a sentence what a person has to do, and which command does it.
func (r *rotator) need() (sentence, command string) {
	k := r.in.Key
	switch r.Step {
	case rotation.AwaitingKey:
		return fmt.Sprintf("Make a new key for %s (%s) and give it to rekey, never here.", k.Account, r.Prepared.ProviderConsole), "starter supply " + k.Name
	case rotation.AwaitingRevocation:
		return fmt.Sprintf("Revoke the key %s of %s (%s), and say so.", strings.ReplaceAll(r.describe(r.outgoing()), "`", ""), k.Account, r.Prepared.ProviderConsole), "starter revoked " + k.Name
	case rotation.AwaitingApproval:
		return "Decide: " + r.Question, fmt.Sprintf("starter status %s, then starter approve %s", k.Name, k.Name)
	}
	return "The rotation does not get on: " + r.Stall, "starter status " + k.Name
}

// meanwhileTold says in a notice what happens if nobody acts.
func (r *rotator) meanwhileTold() string {
	switch {
	case r.goesBack():
		return "Then the rotation rolls back to the old key."
	case r.ContainThen != "":
		return "The key that leaked stays live."
	case r.Step.Waiting():
		return "Both keys stay as they are."
	}
	return "rekey goes on trying."
}

// told are the channels that were told, or should have been.
func (r *rotator) told() []rotation.Told {
	var all []rotation.Told
	for _, l := range r.Lines {
		if !l.Told.At.IsZero() || l.Told.Problem != "" {
			all = append(all, l.Told)
		}
	}
	return all
}

// toldLine says in the details who has been told.
func (r *rotator) toldLine() string {
	var parts []string
	for _, t := range r.told() {
		var part []string
		if !t.At.IsZero() {
			part = append(part, t.Channel+" "+stamp(t.At))
		}
		if t.Problem != "" {
			part = append(part, t.Channel+" could not be told: "+strings.TrimRight(t.Problem, "."))
		}
		parts = append(parts, part...)
	}
	return strings.Join(parts, "; ")
}

// handedOver is the note that somebody left for whoever comes next.
func (r *rotator) handedOver() string {
	if r.HandedOver == nil {
		return ""
	}
	return fmt.Sprintf("%s, %s: %s", r.HandedOver.By, stamp(r.HandedOver.At), r.HandedOver.Why)
}

// tellEnd tells the end of the rotation to those that were told of it, and a roll-back always. It only starts Tell,
// which outlives the rotation: neither quiet hours nor a channel that is down keep the key's next rotation waiting.
func (r *rotator) tellEnd(res rotation.Result) {
	r.tellNoMore()
	var to []rotation.Channel
	for _, l := range r.Lines {
		if l.Asked || res.Phase == rotation.RolledBack && !l.Second {
			to = append(to, l.Channel)
		}
	}
	if len(to) == 0 {
		return
	}
	about := rotation.AboutCompleted
	if res.Phase == rotation.RolledBack {
		about = rotation.AboutRolledBack
	}
	r.Words++
	notice := r.notice(about)
	notice.Need = res.Outcome
	if len(res.Left) > 0 {
		notice.Need = fmt.Sprintf("%d thing(s) are left to see to. %s", len(res.Left), res.Outcome)
		notice.Command = "starter status " + r.in.Key.Name
	}
	startTell(r.ctx, TellInput{
		Target: r.target(), Workflow: workflow.GetInfo(r.ctx).WorkflowExecution.ID, Notice: notice, Channels: to, Urgent: r.emergency(),
	})
}
