// Package schedules keeps one Temporal Schedule per key in step with rekey.yaml. Plan says what differs, and is pure data;
// Apply carries it out. Each schedule starts a dispatcher at the key's beat.
package schedules

import (
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// catchUp is how late a beat is still taken up after Temporal was down: longer than the week that we promise.
const catchUp = 8 * 24 * time.Hour

// The memo fields that mark what is ours: on a schedule its install, on what it starts a digest of what was wanted.
const (
	installMemo = "rekey-install"
	digestMemo  = "rekey-digest"
)

// dispatcher is the type of the workflow that schedules start.
const dispatcher = workflows.DispatchType

// Desired is what rekey.yaml wants of the schedule of one key.
type Desired struct {
	Key    rotation.Key
	Paused bool
}

// schedule is the schedule of a key as an install wants it, but for whether it is paused.
func schedule(install string, k rotation.Key) (*schedulepb.Schedule, error) {
	input, err := converter.GetDefaultDataConverter().ToPayloads(workflows.DispatchInput{Key: k, Install: install})
	if err != nil {
		return nil, fmt.Errorf("the schedule of %s cannot be written: %w", k.Name, err)
	}
	beat := k.Policy.Window.Beat(install, k.Name)
	s := &schedulepb.Schedule{
		Spec: &schedulepb.ScheduleSpec{StructuredCalendar: []*schedulepb.StructuredCalendarSpec{daily(beat)}, TimezoneName: zoneName(k.Policy.Window)},
		Action: &schedulepb.ScheduleAction{Action: &schedulepb.ScheduleAction_StartWorkflow{StartWorkflow: &workflowpb.NewWorkflowExecutionInfo{
			WorkflowId:   workflows.DispatchID(k.Name),
			WorkflowType: &commonpb.WorkflowType{Name: dispatcher},
			TaskQueue:    &taskqueuepb.TaskQueue{Name: workflows.TaskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
			Input:        input,
			UserMetadata: &sdkpb.UserMetadata{Summary: text("Asks whether " + k.Name + " is due, and starts its rotation if it is.")},
			Priority:     &commonpb.Priority{PriorityKey: int32(workflows.Priority(rotation.Scheduled).PriorityKey)},
		}}},
		Policies: &schedulepb.SchedulePolicies{
			OverlapPolicy: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: durationpb.New(catchUp),
		},
		State: &schedulepb.ScheduleState{},
	}
	for _, d := range k.Policy.Window.Blackout {
		s.Spec.ExcludeStructuredCalendar = append(s.Spec.ExcludeStructuredCalendar, blackout(d)...)
	}
	start := s.GetAction().GetStartWorkflow()
	start.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{digestMemo: text(digest(settings(s)))}}
	return s, nil
}

func zoneName(w rotation.Window) string {
	if w.Zone == "" {
		return "UTC"
	}
	return w.Zone
}

func text(s string) *commonpb.Payload {
	// A string always encodes.
	p, _ := converter.GetDefaultDataConverter().ToPayload(s)
	return p
}

// daily fires at a beat. Temporal takes a field without a range for one that never matches.
func daily(b rotation.Beat) *schedulepb.StructuredCalendarSpec {
	one := func(d time.Duration) []*schedulepb.Range { return span(int(d), int(d)) }
	c := &schedulepb.StructuredCalendarSpec{
		Hour: one(b.At / time.Hour), Minute: one(b.At / time.Minute % 60), Second: one(b.At / time.Second % 60),
		DayOfMonth: span(1, 31), Month: span(1, 12),
	}
	for _, d := range b.Weekdays() {
		c.DayOfWeek = append(c.DayOfWeek, span(int(d), int(d))...)
	}
	return c
}

// blackout matches every second of some days: one calendar for each month that they touch.
func blackout(d rotation.Dates) []*schedulepb.StructuredCalendarSpec {
	var all []*schedulepb.StructuredCalendarSpec
	for first := d.First; !first.After(d.Last); {
		y, m, day := first.Date()
		next := time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
		last := next.AddDate(0, 0, -1)
		if d.Last.Before(last) {
			last = d.Last
		}
		all = append(all, &schedulepb.StructuredCalendarSpec{
			Hour: span(0, 23), Minute: span(0, 59), Second: span(0, 59), DayOfWeek: span(0, 6),
			DayOfMonth: span(day, last.Day()), Month: span(int(m), int(m)), Year: span(y, y),
		})
		first = next
	}
	return all
}

func span(first, last int) []*schedulepb.Range {
	return []*schedulepb.Range{{Start: int32(first), End: int32(last), Step: 1}}
}
