package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/tests/virtual"
	"github.com/rekeyhq/rekey/workflows"
)

// calm is how many rotations without faults may follow until all is well again: the first of them may find something that
// the schedule left behind, and ask about it.
const calm = 3

// story is a schedule that is being told.
type story struct {
	Schedule
	audited
	server *server
	late   late

	mu sync.Mutex
	// began and notices count activities and notifications.
	began, notices int
	// over: nothing goes wrong any more.
	over bool
	// done are the events that have happened.
	done map[Event]bool
	// refused is why a person could not act the last time.
	refused error
}

// outcome is how a story went.
type outcome struct {
	// broken is what did not hold.
	broken []string
	// happened is how many of the schedule's events have happened.
	happened int
	journal  []simcloud.Event
}

// tell runs a schedule. An error means that it could not be run.
// It ends with a search for leaks, before which also are called.
func tell(ctx context.Context, s Schedule, servers *servers, also ...func(*story)) (out outcome, err error) {
	dir, err := os.MkdirTemp("", "rekey-story-")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	server, release, err := servers.get(ctx, s.Settings[ofTemporal], dir)
	if err != nil {
		return out, err
	}
	defer release()
	t := &story{Schedule: s, server: server, done: map[Event]bool{}}
	defer t.Close()
	workers, err := strconv.Atoi(s.Settings[ofWorkers])
	if err != nil {
		return out, err
	}
	shape := virtual.Shape{
		Name: s.String(), ByHand: s.Settings[ofProvider] == "openai", Stores: strings.Split(s.Settings[ofStores], ","),
		Policy: []string{"grace: " + s.Settings[ofGrace], "soak: " + s.Settings[ofSoak], "step_timeout: 3s"},
	}
	if s.Settings[ofApproval] == "yes" {
		shape.Policy = append(shape.Policy, "approve: true")
	}
	timing := simcloud.Timing{}
	t.World, err = virtual.NewWorld(ctx, server.get(), virtual.Options{
		Shape: shape, Dir: dir, Mode: "upload", RequestTimeout: "1s", Processes: workers,
		Hooks: virtual.Hooks{Scenario: func(o *scenario.Options) {
			if s.Settings[ofLags] == "some" {
				o.Propagation, o.RevocationLag, o.ListLag, o.ReadLag = "2m", "2m", "1m", "1m"
				timing = simcloud.Timing{Propagation: 90 * time.Second, RevocationLag: 90 * time.Second, ListLag: 40 * time.Second, VisibleLag: 5 * time.Second, AliasLag: 40 * time.Second}
			}
		}},
	})
	if err != nil {
		return out, err
	}
	t.Cloud.SetTiming(timing)
	t.Before, t.After, t.Person = t.before, t.after, t.person
	if workers == 0 {
		// From here it cannot be seen what another process asks of stores and providers.
		if err := t.watch(); err != nil {
			return out, err
		}
	}
	out.broken = t.tell(ctx)
	for _, do := range also {
		do(t)
	}
	out.broken = append(out.broken, t.leaks(ctx, dir)...)
	out.journal = t.Cloud.Journal()
	t.mu.Lock()
	defer t.mu.Unlock()
	out.happened = len(t.done)
	return out, nil
}

func (t *story) tell(ctx context.Context) []string {
	t.begins(t.gravest())
	remove := t.inject()
	reason := rotation.Reason(t.Settings[ofReason])
	var problems []string
	if t.Settings[ofReason] == "revoke-first" {
		reason = rotation.Emergency
	}
	// How it ends is judged by what is left when all is over: a person may have ended it.
	if stuck := t.rotate(ctx, reason, t.Settings[ofReason] == "revoke-first"); stuck != "" {
		problems = append(problems, stuck)
	}
	remove()
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	if t.revokeFirst() {
		// Whatever there was until it ended was named as leaked: after a reset also what it had made itself.
		for _, e := range t.Cloud.Journal() {
			t.MayDie = append(t.MayDie, e.KeyID)
		}
	}
	t.late.commit(true)
	if !t.revokeFirst() {
		// It is not known how it ended, so what is left is not judged yet.
		problems = append(problems, t.seen(rotation.Result{})...)
	}
	if len(problems) > 0 {
		// Whatever did not end leaves more behind; that says nothing.
		return append(problems, slices.DeleteFunc(t.judged(rotation.Result{}), func(b string) bool { return !strings.HasPrefix(b, "event") })...)
	}
	return t.calm(ctx)
}

// gravest is what the client auditor allows: an emergency, and somebody who ends it, leave no grace period. After a reset the
// time of the workflow begins again at where it was reset to, as it does in virtual time only, so that grace cannot be measured.
func (t *story) gravest() rotation.Reason {
	if t.Settings[ofReason] != string(rotation.Manual) || slices.ContainsFunc(t.Events, func(e Event) bool {
		return e.What == "emergency" || e.What == "revoke-first" || e.What == "finish-grace" || e.What == "reset"
	}) {
		return rotation.Emergency
	}
	return rotation.Manual
}

// rotate lets a rotation run to its end, and returns why it does not come there.
func (t *story) rotate(ctx context.Context, reason rotation.Reason, revokeFirst bool) (stuck string) {
	ctx, cancel := t.watched(ctx)
	defer cancel()
	_, err := t.Rotate(ctx, time.Duration(t.Key.Policy.Period), reason, emergencies(revokeFirst)...)
	if ctx.Err() == nil {
		// It was ended, or goes on elsewhere: after a reset its parent learns of nothing.
		err = t.Closed(ctx)
	}
	if err == nil {
		return ""
	}
	return fmt.Sprintf("I7: the rotation does not end: %v (%v); %s", context.Cause(ctx), err, t.stands())
}

// stands says how the rotation stands, for whoever looks for why it does not get on.
func (t *story) stands() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	now, err := t.Status(ctx)
	var last []string
	iter := t.Temporal.GetWorkflowHistory(ctx, workflows.ID(t.Key.Name), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			last = append(last, err.Error())
			break
		}
		last = append(last, fmt.Sprintf("%d %s %s", e.GetEventId(), e.GetEventTime().AsTime().Format(time.DateTime), e.GetEventType()))
	}
	logs := t.Logs()
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("it is in %s (%v) since %v, now %v; a person: %v; its last events: %s\n%s\n%s",
		now.Phase, err, now.Trail, t.Now(), t.refused, strings.Join(last[max(0, len(last)-6):], ", "), now.Details, logs[max(0, len(logs)-2000):])
}

func emergencies(revokeFirst bool) []rotation.Decision {
	if !revokeFirst {
		return nil
	}
	return []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{ID: uuid.NewString(), By: "somebody", RevokeFirst: true}}}
}

// calm rotates without faults until one rotation is completed, and returns what does not hold then.
func (t *story) calm(ctx context.Context) []string {
	var last string
	cleared := t.client == nil
	for range calm + 1 {
		t.begins(rotation.Manual)
		watched, cancel := t.watched(ctx)
		res, err := t.Rotate(watched, time.Duration(t.Key.Policy.Period), rotation.Manual)
		err = errors.Join(err, context.Cause(watched))
		cancel()
		if err == nil && res.Phase == rotation.Completed && !res.NotDue {
			t.Pass(time.Hour) // lists show a key some time longer than there is one
			if !cleared {
				// It has cleared away what the schedule left, of which the client auditor knows nothing any more.
				cleared = true
				continue
			}
			return t.judged(res)
		}
		if last = fmt.Sprintf("%v: %s. %s", err, res.Phase, res.Outcome); err != nil {
			last += "; " + t.stands()
			break
		}
	}
	return []string{"I7: all is quiet, and yet no rotation is completed: " + last}
}

// inject sets the faults of requests.
func (t *story) inject() (remove func()) {
	var removes []func()
	for _, e := range t.Events {
		if e.At != atRequest {
			continue
		}
		f := nth(e.N, e.What)
		if e.What == "late" || e.What == "later" {
			t.late.expect(&f, e.What == "later")
		}
		stop := make(chan struct{})
		go func() {
			select {
			case <-f.Reached:
			case <-stop:
				return
			}
			t.happened(e)
			switch e.What {
			case "kill-before":
				t.KillWorker()
			case "kill-after":
				t.KillWorker()
				close(f.Release)
			}
		}()
		removes = append(removes, t.Cloud.Inject(f), func() { close(stop) })
	}
	return func() {
		for _, r := range removes {
			r()
		}
	}
}

func (t *story) happened(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done[e] = true
}

// before is called when an activity begins.
func (t *story) before(string) {
	t.late.commit(true)
	for _, e := range t.due(atActivity, &t.began) {
		if e.What != "kill-end" {
			t.happened(e)
			t.act(e)
		}
	}
}

// after is called when an activity has ended, before Temporal learns of it.
func (t *story) after(string) {
	t.late.commit(false)
	t.mu.Lock()
	n, over := t.began-1, t.over
	t.mu.Unlock()
	for _, e := range t.Events {
		if !over && e.At == atActivity && e.What == "kill-end" && e.N == n {
			t.happened(e)
			t.KillWorker()
		}
	}
}

// due returns what happens at the present count, and counts on.
func (t *story) due(at counter, count *int) (due []Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.Events {
		if !t.over && e.At == at && e.N == *count {
			due = append(due, e)
		}
	}
	*count++
	return due
}

// revokeFirst reports whether somebody has asked to take keys away before there is a new one.
func (t *story) revokeFirst() bool {
	return t.Settings[ofReason] == "revoke-first" || slices.ContainsFunc(t.Events, func(e Event) bool { return e.What == "revoke-first" })
}

// act does what somebody or something does while an activity is about to begin. What is refused is no violation: people try.
func (t *story) act(e Event) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	id := workflows.ID(t.Key.Name)
	m := rotation.DecisionMessage{ID: uuid.NewString(), By: "somebody", Why: "the schedule says so"}
	signal := func(k rotation.DecisionKind) { _ = t.Temporal.SignalWorkflow(ctx, id, "", string(k), m) }
	switch e.What {
	case "kill":
		t.KillWorker()
	case "terminate":
		_ = t.Temporal.TerminateWorkflow(ctx, id, "", m.Why)
	case "cancel":
		_ = t.Temporal.CancelWorkflow(ctx, id, "")
	case "reset":
		_ = t.reset(ctx, id, e.N)
	case "roll-back":
		signal(rotation.RollBack)
	case "finish-grace":
		signal(rotation.FinishGrace)
	case "extend-grace":
		m.For = rotation.Duration(24 * time.Hour)
		signal(rotation.ExtendGrace)
	case "note":
		signal(rotation.AddNote)
	case "emergency":
		signal(rotation.RaiseEmergency)
	case "revoke-first":
		m.RevokeFirst = true
		signal(rotation.RaiseEmergency)
	case "start":
		_, _ = client.New(t.Temporal).StartManual(ctx, t.Key, m.By, m.Why)
	case "restart":
		// The activity that is about to begin waits for it.
		if err := t.server.restart(ctx); err != nil {
			t.Fail(fmt.Errorf("Temporal does not start again: %w", err))
		}
	}
}

// reset begins the rotation anew after one of its workflow tasks.
func (t *story) reset(ctx context.Context, id string, n int) error {
	var at []int64
	var run string
	iter := t.Temporal.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			return err
		}
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			at = append(at, e.GetEventId())
		}
	}
	if len(at) == 0 {
		return errors.New("there is nothing to reset to")
	}
	_, err := t.Temporal.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: t.Namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: run},
		Reason: "the schedule says so", WorkflowTaskFinishEventId: at[n%len(at)], RequestId: uuid.NewString(),
	})
	return err
}

// person does what a notification asks for, or what people do instead. Whatever a person does not do now, the next reminder
// asks for again.
func (t *story) person(ctx context.Context, n rotation.Notification) error {
	// A person's own requests go wrong, too, and the rotation may have ended since; the next reminder finds them at it again,
	// and what they never bring about is stuck.
	right := func() {
		err := t.Act(ctx, n)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refused = err
	}
	due := t.due(atNotice, &t.notices)
	if len(due) == 0 {
		right()
		return nil
	}
	t.happened(due[0])
	switch due[0].What {
	case "late": // it is left lying
	case "twice":
		right()
		right()
	case "wrong":
		t.wrong(ctx)
	case "reject":
		_ = t.Decide(ctx, rotation.Reject, rotation.DecisionMessage{Why: "I do not like it"})
	case "roll-back":
		_ = t.Decide(ctx, rotation.RollBack, rotation.DecisionMessage{Why: "I do not like it"})
	}
	return nil
}

// wrong does what must not work.
func (t *story) wrong(ctx context.Context) {
	// The old key once more, and one that is none.
	for _, v := range []secret.Value{t.First("key"), secret.New([]byte("not a key at all, but as long as one is"))} {
		if _, _, err := t.Acts.StageSupplied(ctx, t.Key, "", v); err == nil {
			_ = t.Decide(ctx, rotation.KeySupplied, rotation.DecisionMessage{})
		}
	}
	_ = t.Decide(ctx, rotation.KeySupplied, rotation.DecisionMessage{Version: "1"})
	_ = t.Decide(ctx, rotation.KeySupplied, rotation.DecisionMessage{Version: "17"})
	_ = t.Decide(ctx, rotation.KeyRevoked, rotation.DecisionMessage{Why: "I think so"})
	_ = t.Decide(ctx, rotation.Approve, rotation.DecisionMessage{Question: "another-one"})
}

// servers are the Temporals of a campaign.
type servers struct {
	mu     sync.Mutex
	shared map[string]*server
}

// server is a Temporal that can be stopped and started.
type server struct {
	mu      sync.Mutex
	running *devserver.Server
	options devserver.Options
}

func (s *server) get() *devserver.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

func start(ctx context.Context, o devserver.Options) (*server, error) {
	o.SearchAttributes, o.SkipTime = workflows.SearchAttributes(), true
	running, err := devserver.Start(ctx, o)
	return &server{running: running, options: o}, err
}

// restart stops the server and starts it again on its port.
func (s *server) restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Port = s.running.Port()
	if err := s.running.Stop(); err != nil {
		return err
	}
	again, err := devserver.Start(ctx, s.options)
	if err == nil {
		s.running = again
	}
	return err
}

// get returns a server of a kind, and what to do when it is no longer needed.
func (s *servers) get(ctx context.Context, kind, dir string) (*server, func(), error) {
	if kind == "file" {
		one, err := start(ctx, devserver.Options{DatabaseFile: filepath.Join(dir, "temporal.db")})
		return one, func() { _ = one.get().Stop() }, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared[kind] == nil {
		var o devserver.Options
		if kind == "lies" {
			o.Faults = lies()
		}
		one, err := start(ctx, o)
		if err != nil {
			return nil, nil, err
		}
		if s.shared == nil {
			s.shared = map[string]*server{}
		}
		s.shared[kind] = one
	}
	return s.shared[kind], func() {}, nil
}

func (s *servers) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.shared {
		_ = one.get().Stop()
	}
}

// lies are how the database of Temporal fails: one call in twenty, and half of those have done what was asked for. The seed
// makes it lie the same each time.
func lies() (all []devserver.Fault) {
	const seed = 1
	for _, method := range []string{"CreateWorkflowExecution", "UpdateWorkflowExecution", "AppendHistoryNodes", "GetWorkflowExecution", "ReadHistoryBranch"} {
		all = append(all, devserver.Fault{Method: method, Kind: "Timeout", Rate: 0.025, Seed: seed})
		if !strings.HasPrefix(method, "Get") && !strings.HasPrefix(method, "Read") {
			all = append(all, devserver.Fault{Method: method, Kind: "ExecuteAndTimeout", Rate: 0.025, Seed: seed})
		}
	}
	return all
}
