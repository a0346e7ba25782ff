package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// refreshDetails puts the present state where the Temporal UI shows it.
func (r *runner) refreshDetails() { workflow.SetCurrentDetails(r.ctx, r.page().Render()) }

// page is the operator's page of the rotation, as it is now.
func (r *runner) page() details.Page {
	k := r.in.Key
	p := details.Page{
		Key: k.Name, Provider: k.Provider, Account: k.Account, First: k.Stores[0],
		Rotation: r.id, Reason: r.in.Reason, StartedAt: r.Progress.StartedAt, Context: r.decisionContext(),
		Outcome: r.Progress.Outcome, Note: r.Progress.Note,
		Old: shownKeys(r.Keys.Old), Outgoing: shownKeys(r.outgoing()),
		OldRefused: r.Keys.Prepared.OldRefused, Contained: r.Emergency.Contained, Revoked: r.asListed(r.Carry.Revoked),
		ProviderConsole: r.Keys.Prepared.ProviderConsole, StoreConsole: r.Keys.Prepared.StoreConsole, Links: r.Carry.Links,
		SoakUntil: r.Direction.SoakUntil,
		FourEyes:  r.fourEyes(), Signed: rotation.Signing{Signed: r.Approvals.Signed}.Names(),
		AtDeadline: r.atDeadline(), Notifies: len(r.Carry.Channels) > 0, Reminders: r.Wait.Reminders,
		Deliveries: r.delivered(), Handover: r.Carry.Note, FollowUps: r.Carry.FollowUps,
	}
	p.Why, p.Blocked = r.trouble()
	if n := r.Keys.New; n != nil {
		p.New = new(shownKey(*n))
	}
	if r.backwards() || r.Keys.New != nil {
		p.Incoming = new(shownKey(*r.incoming()))
	}
	if q := r.question(); r.At.Step == rotation.StepApproval {
		p.Question = details.Question{ID: q.ID, Text: q.Text}
		p.Question.Approve, p.Question.Reject = r.answers()
	}
	if n := len(r.Carry.LeakedFingerprints); n > 0 {
		p.Leak = &details.Leak{Fingerprint: r.Carry.LeakedFingerprints[n-1], Purge: r.purge()}
	}
	return p
}

// trouble says what the rotation waits for or why it is blocked, if it is. rekey tries again by itself either way.
func (r *runner) trouble() (why string, blocked bool) {
	switch {
	case r.Blocked.Why != "":
		return r.Blocked.Why, true
	case r.Poll.At.After(r.now()):
		return r.Poll.Why, !r.now().Before(r.Poll.ExpectedUntil)
	case r.At.Step.Phase() == rotation.Grace:
		return r.Direction.Trouble, r.Direction.Trouble != ""
	}
	return "", false
}

// atDeadline is what happens if nobody acts.
func (r *runner) atDeadline() details.Consequence {
	switch {
	case !r.rollsBackAtDeadline():
		return details.Overdue
	case r.At.Step == rotation.StepApproval && r.question().Kind == noWayBack:
		return details.TriesRollBack
	}
	return details.RollsBack
}

func shownKeys(refs []activities.Ref) []details.Key {
	var all []details.Key
	for _, o := range refs {
		all = append(all, shownKey(o))
	}
	return all
}

func shownKey(o activities.Ref) details.Key {
	return details.Key{ID: o.KeyID, Fingerprint: o.Fingerprint, Shown: o.Shown, AddedAt: o.AddedAt}
}

// StaticSummary is the line that the Temporal UI shows above the details of a rotation.
func StaticSummary(in Input) string { return in.start().Summary() }

// StaticDetails is what the Temporal UI shows about a rotation for as long as it is kept.
func StaticDetails(in Input) string { return in.start().Render() }

func (in Input) start() details.Start {
	return details.Start{Key: in.Key, Reason: in.Reason, By: in.By, Why: in.Why}
}

// TriggerDetails is what the Temporal UI shows about a delivery for as long as it is kept.
func TriggerDetails(in TriggerInput) string {
	return details.TriggerStart{Source: in.Source, Leaked: in.Leaked, Keys: in.Keys, Fingerprints: in.Fingerprints, Why: in.Why}.Render()
}

// EmergencySummary is the line that the Temporal UI shows for an emergency.
func EmergencySummary(in EmergencyInput) string { return in.start().Summary() }

// EmergencyDetails is what the Temporal UI shows about an emergency for as long as it is kept.
func EmergencyDetails(in EmergencyInput) string { return in.start().Render() }

func (in EmergencyInput) start() details.EmergencyStart {
	return details.EmergencyStart{Keys: len(in.Keys), Message: in.Message}
}
