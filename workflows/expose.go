package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// maxExposed bounds what a rotation remembers of keys that were sent to it.
const maxExposed = 16

// expose treats what stands in a signal as leaked: the history keeps it, and everybody who reaches Temporal can read it.
// Nothing of it goes on but fingerprints. A key that this rotation is about to publish is not published; one that it has
// published is replaced at once; one that a person supplies later is refused.
func (r *rotator) expose(kind rotation.Kind, data []byte) {
	found := rotation.KeysIn(data)
	r.ExposedIn = workflow.GetInfo(r.ctx).WorkflowExecution.RunID
	for _, f := range found {
		if !slices.Contains(r.Exposed, f) && len(r.Exposed) < maxExposed {
			r.Exposed = append(r.Exposed, f)
		}
	}
	r.Left = append(r.Left, fmt.Sprintf("A signal %q of %s held what looks like a key. Revoke that key, if it is live, and delete this history: %s", kind, stamp(r.now()), r.purge()))
	var stays *activities.Ref
	switch {
	case r.Reverse:
		stays = &r.Old[0]
	case r.New != nil:
		stays = r.New
	}
	switch {
	case stays == nil || !slices.Contains(found, stays.Fingerprint):
	case r.Reverse || r.Promoting || r.Irreversible:
		m := rotation.Message{By: "rekey", Why: "The key " + stays.Name() + " was sent in a signal.", Leaked: []string{stays.Fingerprint}}
		if !slices.ContainsFunc(r.Follow, func(d rotation.Decision) bool { return slices.Equal(d.Leaked, m.Leaked) }) {
			r.take(rotation.RaiseEmergency, m)
		}
	default:
		r.wish("The new key " + stays.Name() + " was sent in a signal, so it counts as leaked.")
	}
}

// purge is the command that deletes the history in which a key stands. A rotation may have several, one for each run.
func (r *rotator) purge() string {
	return "temporal workflow delete --workflow-id " + ID(r.in.Key.Name) + " --run-id " + r.ExposedIn
}

// exposed says what to do about keys in the history, for as long as the rotation goes on.
func (r *rotator) exposed() string {
	if len(r.Exposed) == 0 || r.Step.Closed() {
		return ""
	}
	return fmt.Sprintf("**A key stands in this history**, sent in a message (fingerprint %s). rekey treats it as leaked. 1. Revoke it, if it is live: %s. 2. Make another. 3. When this rotation has ended, delete its history: %s.",
		code(r.Exposed[len(r.Exposed)-1]), r.console(), code(r.purge()))
}
