package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// maxLeakedFingerprints bounds what a rotation remembers of keys that were sent to it.
const maxLeakedFingerprints = 16

// noteLeak treats what was sent in a signal as leaked: the history keeps it, and everybody who reaches Temporal can read
// it. Nothing of it goes on but fingerprints. A key that this rotation is about to publish is not published; one that it
// has published is replaced at once; one that a person supplies later is refused.
func (r *runner) noteLeak(kind rotation.Kind, data []byte) {
	found := rotation.KeysIn(data)
	r.Carry.LeakedIn = workflow.GetInfo(r.ctx).WorkflowExecution.RunID
	for _, f := range found {
		if !slices.Contains(r.Carry.LeakedFingerprints, f) && len(r.Carry.LeakedFingerprints) < maxLeakedFingerprints {
			r.Carry.LeakedFingerprints = append(r.Carry.LeakedFingerprints, f)
		}
	}
	r.followUp(fmt.Sprintf("A signal %q of %s held what looks like a key. Revoke that key, if it is live, and delete this history: %s", kind, moment(r.now()), r.purge()))
	var stays *activities.Ref
	if r.backwards() || r.Keys.New != nil {
		stays = r.incoming()
	}
	switch {
	case stays == nil || !slices.Contains(found, stays.Fingerprint):
	case r.At.Commitment.Published():
		m := rotation.Message{By: "rekey", Why: "The key " + stays.Name() + " was sent in a signal.", Leaked: []string{stays.Fingerprint}}
		if !slices.ContainsFunc(r.Inbox.Successors, func(d rotation.Decision) bool { return slices.Equal(d.Leaked, m.Leaked) }) {
			r.apply(rotation.RaiseEmergency, m)
		}
	default:
		r.requestRollback("The new key " + stays.Name() + " was sent in a signal, so it counts as leaked.")
	}
}

// purge is the command that deletes the history in which a key stands. A rotation may have several, one for each run.
func (r *runner) purge() string {
	return "temporal workflow delete --workflow-id " + ID(r.in.Key.Name) + " --run-id " + r.Carry.LeakedIn
}

// leakNote says what to do about keys in the history, for as long as the rotation goes on.
func (r *runner) leakNote() string {
	known := r.Carry.LeakedFingerprints
	if len(known) == 0 || r.At.Step.Closed() {
		return ""
	}
	return fmt.Sprintf("**A key stands in this history**, sent in a message (fingerprint %s). rekey treats it as leaked. 1. Revoke it, if it is live: %s. 2. Make another. 3. When this rotation has ended, delete its history: %s.",
		code(known[len(known)-1]), r.console(), code(r.purge()))
}
