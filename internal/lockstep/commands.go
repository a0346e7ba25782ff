package lockstep

import (
	"fmt"
	"slices"
	"strings"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// taskCompleted writes what the workflow wants into the history, as the server does.
func (r *Run) taskCompleted(scheduled, started int64, req *workflowservice.RespondWorkflowTaskCompletedRequest) {
	r.f.t.Helper()
	// The SDK sends them as they come out of a map. Sorted, they are the same whenever the test does the same.
	slices.Sort(req.GetSdkMetadata().GetLangUsedFlags())
	completed := r.write(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, r.now, &historypb.HistoryEvent{
		Attributes: &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{
			ScheduledEventId: scheduled, StartedEventId: started, Identity: req.GetIdentity(),
			SdkMetadata: req.GetSdkMetadata(), MeteringMetadata: req.GetMeteringMetadata(),
		}}}).GetEventId()
	messages := req.GetMessages()
	again := false
	for _, c := range req.GetCommands() {
		if r.Closed() {
			r.f.t.Fatalf("lockstep: %s comes after the workflow has ended", Summary(c))
		}
		if c.GetCommandType() == enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE {
			id := c.GetProtocolMessageCommandAttributes().GetMessageId()
			i := slices.IndexFunc(messages, func(m *protocolpb.Message) bool { return m.GetId() == id })
			if i < 0 {
				r.f.t.Fatalf("lockstep: a command names the message %s, which is not there", id)
			}
			r.handleMessage(messages[i])
			messages = slices.Delete(messages, i, i+1)
			continue
		}
		again = r.command(completed, c) || again
	}
	for _, m := range messages {
		r.handleMessage(m)
	}
	if again {
		r.schedule(r.now)
	}
}

// command writes the event of one command, and reports whether something happened at once that calls for a task.
func (r *Run) command(completed int64, c *commandpb.Command) bool {
	r.f.t.Helper()
	event := &historypb.HistoryEvent{UserMetadata: c.GetUserMetadata()}
	write := func(kind enumspb.EventType) *historypb.HistoryEvent { return r.write(kind, r.now, event) }
	switch c.GetCommandType() {
	case enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:
		a := c.GetScheduleActivityTaskCommandAttributes()
		event.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
			ActivityId: a.GetActivityId(), ActivityType: a.GetActivityType(), TaskQueue: a.GetTaskQueue(), Header: a.GetHeader(), Input: a.GetInput(),
			ScheduleToCloseTimeout: a.GetScheduleToCloseTimeout(), ScheduleToStartTimeout: a.GetScheduleToStartTimeout(),
			StartToCloseTimeout: a.GetStartToCloseTimeout(), HeartbeatTimeout: a.GetHeartbeatTimeout(), RetryPolicy: a.GetRetryPolicy(),
			WorkflowTaskCompletedEventId: completed, Priority: a.GetPriority(),
		}}
		write(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)

	case enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK:
		scheduled := c.GetRequestCancelActivityTaskCommandAttributes().GetScheduledEventId()
		event.Attributes = &historypb.HistoryEvent_ActivityTaskCancelRequestedEventAttributes{ActivityTaskCancelRequestedEventAttributes: &historypb.ActivityTaskCancelRequestedEventAttributes{
			ScheduledEventId: scheduled, WorkflowTaskCompletedEventId: completed,
		}}
		write(enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
		a := find(r.pending.Activities, func(a Activity) bool { return a.EventID == scheduled })
		if a != nil && a.waiting && !a.closing {
			r.canceled(*a, 0, r.now, r.f.encode("ACTIVITY_ID_NOT_STARTED"))
			return true
		}

	case enumspb.COMMAND_TYPE_START_TIMER:
		a := c.GetStartTimerCommandAttributes()
		event.Attributes = &historypb.HistoryEvent_TimerStartedEventAttributes{TimerStartedEventAttributes: &historypb.TimerStartedEventAttributes{
			TimerId: a.GetTimerId(), StartToFireTimeout: a.GetStartToFireTimeout(), WorkflowTaskCompletedEventId: completed,
		}}
		write(enumspb.EVENT_TYPE_TIMER_STARTED)

	case enumspb.COMMAND_TYPE_CANCEL_TIMER:
		id := c.GetCancelTimerCommandAttributes().GetTimerId()
		t := find(r.pending.Timers, func(t Timer) bool { return t.ID == id })
		if t == nil {
			r.f.t.Fatalf("lockstep: the workflow cancels the timer %s, which does not run", id)
		}
		// If it fired meanwhile, it has never fired.
		r.behind = slices.DeleteFunc(r.behind, func(q queued) bool { return q.about == "timer "+id })
		event.Attributes = &historypb.HistoryEvent_TimerCanceledEventAttributes{TimerCanceledEventAttributes: &historypb.TimerCanceledEventAttributes{
			TimerId: id, StartedEventId: t.EventID, WorkflowTaskCompletedEventId: completed, Identity: r.host.identity,
		}}
		write(enumspb.EVENT_TYPE_TIMER_CANCELED)

	case enumspb.COMMAND_TYPE_RECORD_MARKER:
		a := c.GetRecordMarkerCommandAttributes()
		event.Attributes = &historypb.HistoryEvent_MarkerRecordedEventAttributes{MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{
			MarkerName: a.GetMarkerName(), Details: a.GetDetails(), Header: a.GetHeader(), Failure: a.GetFailure(), WorkflowTaskCompletedEventId: completed,
		}}
		write(enumspb.EVENT_TYPE_MARKER_RECORDED)

	case enumspb.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
		event.Attributes = &historypb.HistoryEvent_UpsertWorkflowSearchAttributesEventAttributes{UpsertWorkflowSearchAttributesEventAttributes: &historypb.UpsertWorkflowSearchAttributesEventAttributes{
			WorkflowTaskCompletedEventId: completed, SearchAttributes: c.GetUpsertWorkflowSearchAttributesCommandAttributes().GetSearchAttributes(),
		}}
		write(enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES)

	case enumspb.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES:
		event.Attributes = &historypb.HistoryEvent_WorkflowPropertiesModifiedEventAttributes{WorkflowPropertiesModifiedEventAttributes: &historypb.WorkflowPropertiesModifiedEventAttributes{
			WorkflowTaskCompletedEventId: completed, UpsertedMemo: c.GetModifyWorkflowPropertiesCommandAttributes().GetUpsertedMemo(),
		}}
		write(enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED)

	case enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION:
		a := c.GetStartChildWorkflowExecutionCommandAttributes()
		event.Attributes = &historypb.HistoryEvent_StartChildWorkflowExecutionInitiatedEventAttributes{StartChildWorkflowExecutionInitiatedEventAttributes: &historypb.StartChildWorkflowExecutionInitiatedEventAttributes{
			Namespace: a.GetNamespace(), WorkflowId: a.GetWorkflowId(), WorkflowType: a.GetWorkflowType(), TaskQueue: a.GetTaskQueue(), Input: a.GetInput(),
			WorkflowExecutionTimeout: a.GetWorkflowExecutionTimeout(), WorkflowRunTimeout: a.GetWorkflowRunTimeout(), WorkflowTaskTimeout: a.GetWorkflowTaskTimeout(),
			ParentClosePolicy: a.GetParentClosePolicy(), WorkflowTaskCompletedEventId: completed, WorkflowIdReusePolicy: a.GetWorkflowIdReusePolicy(),
			RetryPolicy: a.GetRetryPolicy(), CronSchedule: a.GetCronSchedule(), Header: a.GetHeader(), Memo: a.GetMemo(), SearchAttributes: a.GetSearchAttributes(),
			Priority: a.GetPriority(),
		}}
		write(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED)

	case enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION:
		a := c.GetSignalExternalWorkflowExecutionCommandAttributes()
		event.Attributes = &historypb.HistoryEvent_SignalExternalWorkflowExecutionInitiatedEventAttributes{SignalExternalWorkflowExecutionInitiatedEventAttributes: &historypb.SignalExternalWorkflowExecutionInitiatedEventAttributes{
			WorkflowTaskCompletedEventId: completed, Namespace: a.GetNamespace(), WorkflowExecution: a.GetExecution(), SignalName: a.GetSignalName(),
			Input: a.GetInput(), Control: a.GetControl(), ChildWorkflowOnly: a.GetChildWorkflowOnly(), Header: a.GetHeader(),
		}}
		write(enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)

	case enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION:
		a := c.GetRequestCancelExternalWorkflowExecutionCommandAttributes()
		event.Attributes = &historypb.HistoryEvent_RequestCancelExternalWorkflowExecutionInitiatedEventAttributes{RequestCancelExternalWorkflowExecutionInitiatedEventAttributes: &historypb.RequestCancelExternalWorkflowExecutionInitiatedEventAttributes{
			WorkflowTaskCompletedEventId: completed, Namespace: a.GetNamespace(), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: a.GetWorkflowId(), RunId: a.GetRunId()},
			Control: a.GetControl(), ChildWorkflowOnly: a.GetChildWorkflowOnly(), Reason: a.GetReason(),
		}}
		write(enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)

	case enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
		event.Attributes = &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{
			Result: c.GetCompleteWorkflowExecutionCommandAttributes().GetResult(), WorkflowTaskCompletedEventId: completed,
		}}
		write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED)

	case enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
		event.Attributes = &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{
			Failure: c.GetFailWorkflowExecutionCommandAttributes().GetFailure(), RetryState: enumspb.RETRY_STATE_RETRY_POLICY_NOT_SET, WorkflowTaskCompletedEventId: completed,
		}}
		write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED)

	case enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:
		event.Attributes = &historypb.HistoryEvent_WorkflowExecutionCanceledEventAttributes{WorkflowExecutionCanceledEventAttributes: &historypb.WorkflowExecutionCanceledEventAttributes{
			Details: c.GetCancelWorkflowExecutionCommandAttributes().GetDetails(), WorkflowTaskCompletedEventId: completed,
		}}
		write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED)

	case enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
		r.continueAsNew(completed, event, c.GetContinueAsNewWorkflowExecutionCommandAttributes())

	default:
		r.f.t.Fatalf("lockstep: the workflow wants %s, which lockstep does not know", c.GetCommandType())
	}
	return false
}

func (r *Run) continueAsNew(completed int64, event *historypb.HistoryEvent, a *commandpb.ContinueAsNewWorkflowExecutionCommandAttributes) {
	runID := r.f.newID()
	event.Attributes = &historypb.HistoryEvent_WorkflowExecutionContinuedAsNewEventAttributes{WorkflowExecutionContinuedAsNewEventAttributes: &historypb.WorkflowExecutionContinuedAsNewEventAttributes{
		NewExecutionRunId: runID, WorkflowType: a.GetWorkflowType(), TaskQueue: a.GetTaskQueue(), Input: a.GetInput(),
		WorkflowRunTimeout: a.GetWorkflowRunTimeout(), WorkflowTaskTimeout: a.GetWorkflowTaskTimeout(), WorkflowTaskCompletedEventId: completed,
		BackoffStartInterval: a.GetBackoffStartInterval(), Initiator: enumspb.CONTINUE_AS_NEW_INITIATOR_WORKFLOW, Header: a.GetHeader(),
		Memo: a.GetMemo(), SearchAttributes: a.GetSearchAttributes(),
	}}
	r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW, r.now, event)
	before := r.events[0].GetWorkflowExecutionStartedEventAttributes()
	r.continued = r.f.begin(runID, r.now, &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowType: a.GetWorkflowType(), WorkflowId: r.ID, Input: a.GetInput(), WorkflowRunTimeout: a.GetWorkflowRunTimeout(),
		ContinuedExecutionRunId: r.RunID, Initiator: enumspb.CONTINUE_AS_NEW_INITIATOR_WORKFLOW, OriginalExecutionRunId: runID,
		FirstExecutionRunId: r.FirstRunID, FirstWorkflowTaskBackoff: durationpb.New(0), Memo: a.GetMemo(), SearchAttributes: a.GetSearchAttributes(),
		Header: a.GetHeader(), ParentWorkflowNamespace: before.GetParentWorkflowNamespace(), ParentWorkflowExecution: before.GetParentWorkflowExecution(),
		RootWorkflowExecution: before.GetRootWorkflowExecution(),
	}, r.suggestAfter)
	r.continued.host = r.host
}

// Summary says in a few words what a command wants.
func Summary(c *commandpb.Command) string {
	name := c.GetCommandType().String()
	var what string
	switch c.GetCommandType() {
	case enumspb.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:
		a := c.GetScheduleActivityTaskCommandAttributes()
		what = a.GetActivityType().GetName() + " " + a.GetActivityId()
	case enumspb.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK:
		what = fmt.Sprint("of event ", c.GetRequestCancelActivityTaskCommandAttributes().GetScheduledEventId())
	case enumspb.COMMAND_TYPE_START_TIMER:
		a := c.GetStartTimerCommandAttributes()
		what = a.GetTimerId() + " " + a.GetStartToFireTimeout().AsDuration().String()
	case enumspb.COMMAND_TYPE_CANCEL_TIMER:
		what = c.GetCancelTimerCommandAttributes().GetTimerId()
	case enumspb.COMMAND_TYPE_RECORD_MARKER:
		what = c.GetRecordMarkerCommandAttributes().GetMarkerName()
	case enumspb.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION:
		a := c.GetStartChildWorkflowExecutionCommandAttributes()
		what = a.GetWorkflowType().GetName() + " " + a.GetWorkflowId()
	case enumspb.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION:
		a := c.GetSignalExternalWorkflowExecutionCommandAttributes()
		what = a.GetSignalName() + " to " + a.GetExecution().GetWorkflowId()
	case enumspb.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION:
		what = c.GetRequestCancelExternalWorkflowExecutionCommandAttributes().GetWorkflowId()
	case enumspb.COMMAND_TYPE_PROTOCOL_MESSAGE:
		what = c.GetProtocolMessageCommandAttributes().GetMessageId()
	case enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
		what = c.GetFailWorkflowExecutionCommandAttributes().GetFailure().GetMessage()
	}
	return strings.TrimSpace(name + " " + what)
}
