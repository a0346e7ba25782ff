// Package workflows holds deterministic code only: RotateKey rotates one key. What it decides by is in package
// rotation, what it does to the world is in package activities.
package workflows

import (
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// The workflow types. Histories and queries have them: a Go function can be renamed, these cannot.
const (
	RotateKeyType = activities.RotateKeyType
	NotifyType    = "Notify"
	DispatchType  = "Dispatch"
	EmergencyType = "Emergency"
	TriggerType   = "Trigger"
)

// TaskQueue is where the workflows go that belong to no provider: what starts rotations.
const TaskQueue = "rekey"

// ProviderTaskQueue is where the rotations of one provider's keys go, workflow and activities, so that its workers can
// be given its credentials and its rate limit alone. One queue for both lets Temporal hand a step's activity to the
// worker that asked for it, without a turn through the queue.
func ProviderTaskQueue(provider string) string { return TaskQueue + "-" + provider }

// ID is the workflow id of the rotations of a key: Temporal lets one of an id run at a time (I6).
func ID(key string) string { return activities.WorkflowID(key) }

// KeyOfID reads a workflow id back.
func KeyOfID(id string) (key string, ok bool) {
	key, ok = strings.CutPrefix(id, ID(""))
	return key, ok && key != ""
}

// StatusQuery is the query that answers with rotation.Status.
const StatusQuery = "status"

// ResultMemo is the memo field that holds the rotation.Result of a closed rotation.
const ResultMemo = "result"

// The search attributes of a rotation. They are few: a SQLite visibility store has ten keyword slots and three
// for datetimes.
var (
	KeyAttribute      = temporal.NewSearchAttributeKeyKeyword("RekeyKey")
	ProviderAttribute = temporal.NewSearchAttributeKeyKeyword("RekeyProvider")
	TierAttribute     = temporal.NewSearchAttributeKeyKeyword("RekeyTier")
	PhaseAttribute    = temporal.NewSearchAttributeKeyKeyword("RekeyPhase")
	ReasonAttribute   = temporal.NewSearchAttributeKeyKeyword("RekeyReason")
	DeadlineAttribute = temporal.NewSearchAttributeKeyTime("RekeyDeadline")
)

// SearchAttributes returns names and types of the search attributes that must be registered in the namespace.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	all := map[string]enumspb.IndexedValueType{}
	for _, k := range []temporal.SearchAttributeKey{KeyAttribute, ProviderAttribute, TierAttribute, PhaseAttribute, ReasonAttribute, DeadlineAttribute} {
		all[k.GetName()] = k.GetValueType()
	}
	return all
}

// StartAttributes are the search attributes that a rotation is started with.
func StartAttributes(k rotation.Key, reason rotation.Reason) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(
		KeyAttribute.ValueSet(k.Name), ProviderAttribute.ValueSet(k.Provider), TierAttribute.ValueSet(string(k.Tier)),
		ReasonAttribute.ValueSet(string(reason)), PhaseAttribute.ValueSet(string(rotation.Prepare)))
}

// ReasonAttributes are the search attributes of what starts rotations: an emergency is listed among those that it raises.
func ReasonAttributes(reason rotation.Reason) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(ReasonAttribute.ValueSet(string(reason)))
}

// Priority lets an emergency pass any backlog of scheduled rotations.
func Priority(reason rotation.Reason) temporal.Priority {
	switch reason {
	case rotation.Emergency:
		return temporal.Priority{PriorityKey: 1}
	case rotation.Scheduled:
		return temporal.Priority{PriorityKey: 4}
	default:
		return temporal.Priority{PriorityKey: 3}
	}
}
