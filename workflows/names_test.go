package workflows_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/notify"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/workflows"
)

// wireNames are the names by which Temporal keeps what rekey does: histories, schedules and search attributes that are
// stored somewhere have them, and people's scripts send them. A name that changes here breaks all of those; it needs a
// version of the workflow, or a migration, and not only another line in this list.
const wireNames = `
activity launch Identify
activity launch RaiseAll
activity launch StartRotation
activity launch Statuses
activity rotation Adopt
activity rotation CheckHealth
activity rotation Confirm
activity rotation Conflict
activity rotation Create
activity rotation Discard
activity rotation Due
activity rotation Guard
activity rotation Notify
activity rotation Prepare
activity rotation Promote
activity rotation Retire
activity rotation Revoke
activity rotation Signers
activity rotation Store
activity rotation Verify
id dispatch/KEY
id emergency/ID
id notify/KEY-ROTATION
id rotate/KEY
id trigger/SOURCE/DELIVERY
memo result
message add-note
message approve
message emergency
message extend-deadline
message extend-grace
message finish-grace
message key-revoked
message key-supplied
message reject
message roll-back
query progress
query status
queue rekey
queue rekey-PROVIDER
schedule rekey/KEY
search-attribute RekeyDeadline Datetime
search-attribute RekeyKey Keyword
search-attribute RekeyPhase Keyword
search-attribute RekeyProvider Keyword
search-attribute RekeyReason Keyword
search-attribute RekeyTier Keyword
workflow launch Dispatch
workflow launch Emergency
workflow launch Trigger
workflow rotation Notify
workflow rotation RotateKey
`

// recorder is a registry that keeps the names.
type recorder struct {
	group string
	names *[]string
}

func (r recorder) RegisterActivityWithOptions(_ any, o activity.RegisterOptions) {
	*r.names = append(*r.names, "activity "+r.group+" "+o.Name)
}

func (r recorder) RegisterWorkflowWithOptions(_ any, o workflow.RegisterOptions) {
	*r.names = append(*r.names, "workflow "+r.group+" "+o.Name)
}

func TestNoNameThatTemporalKeepsHasChanged(t *testing.T) {
	t.Parallel()
	var names []string
	rotations, launches := recorder{"rotation", &names}, recorder{"launch", &names}
	workflows.RegisterRotation(rotations)
	workflows.RegisterLaunch(launches)
	e := &activities.Environment{
		Install: "scene1", Providers: map[string]provider.Provider{}, Stores: map[string]store.Store{},
		Allow: func(rotation.Key) error { return nil }, Keys: func() []rotation.Key { return nil },
		Now: time.Now, Audit: slog.New(slog.DiscardHandler),
	}
	steps := &activities.Steps{Environment: e, Rotations: neighbours{}}
	notifier := &activities.Notifier{Environment: e, Channels: map[string]notify.Channel{}}
	if err := activities.RegisterRotation(rotations, steps, notifier); err != nil {
		t.Fatal(err)
	}
	if err := activities.RegisterLaunch(launches, &activities.Launcher{Environment: e, Starter: &starters{}, Index: &activities.Index{}}); err != nil {
		t.Fatal(err)
	}
	for _, k := range rotation.DecisionKinds() {
		names = append(names, "message "+string(k))
	}
	for name, kind := range workflows.SearchAttributes() {
		names = append(names, fmt.Sprintf("search-attribute %s %s", name, kind))
	}
	names = append(names,
		"query "+workflows.StatusQuery, "query "+workflows.ProgressQuery, "memo "+workflows.ResultMemo,
		"queue "+workflows.TaskQueue, "queue "+workflows.ProviderTaskQueue("PROVIDER"),
		"id "+workflows.ID("KEY"), "id "+workflows.DispatchID("KEY"), "id "+workflows.EmergencyID("ID"),
		"id "+workflows.NotifyID("KEY", "ROTATION"), "id "+workflows.TriggerID("SOURCE", "DELIVERY"),
		"schedule "+workflows.ScheduleID("KEY"))
	slices.Sort(names)
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(wireNames), "\n"), names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
