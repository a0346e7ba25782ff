// Package generate makes the turns of the replay corpus: in virtual time it brings rotations of every shape into every state
// of the diagram, and lets there happen what can.
package generate

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
	"github.com/rekeyhq/rekey/tests/replay/corpus"
	"github.com/rekeyhq/rekey/tests/virtual"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// operators are who signs in the worlds under four eyes.
var operators = []string{"alice", "bob"}

func signer(name string) ssh.Signer {
	s, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed([]byte(strings.Repeat(name, 32)[:32])))
	if err != nil {
		panic(err) // a key of its own making
	}
	return s
}

// stage is a world in which a rotation is brought somewhere, and something happens to it there.
type stage struct {
	*virtual.World
	shape corpus.Shape

	mu sync.Mutex
	// now is the state in which the rotation is; tasks counts the workflow tasks that it got there, stays how often it came.
	now   rotation.State
	tasks int
	stays map[rotation.State]int
	// at is what happens when a state is entered for the first time, before what happens when an activity begins.
	at     map[rotation.State]func() error
	before map[string]func() error
	// leave says when the rotation is told to go on in a new run.
	leave *departure
	// suggested are the tasks that were told so, by run and event.
	suggested map[string]bool
	problems  []error
	// after is how long after the rotation before this one begins.
	after time.Duration
	// old is the fingerprint of the key that applications read before.
	old string
	// excused are violations that the invariants allow: an emergency that revokes first lets applications fail.
	excused map[string]bool
}

// departure is the moment of a change to a new run: the at-th workflow task in one of the stays in a state; of no stay, the
// first task of all.
type departure struct {
	in       rotation.State
	stay, at int
	// stays: people leave the rotation alone until then, so that it stays in the state.
	stays bool
}

func newStage(t *testing.T, server *devserver.Server, shape corpus.Shape) (*stage, error) {
	s := &stage{shape: shape, suggested: map[string]bool{}, excused: map[string]bool{}}
	kind := virtual.Shape{
		Name: shape.String(), ByHand: shape.ByHand, Stores: []string{scenario.Alias},
		Policy: []string{"grace: 2h", "recheck: 45m", "soak: 1h", "approve: true"},
	}
	if shape.TwoStores {
		kind.Stores = append(kind.Stores, scenario.Latest)
	}
	hooks := virtual.Hooks{
		Workers:  []interceptor.WorkerInterceptor{&corpus.Watcher{Enter: s.enter, Hear: func(workflow.Context, corpus.Message) {}}},
		Requests: []grpc.UnaryClientInterceptor{s.suggest},
	}
	if shape.FourEyes {
		kind.Policy = append(kind.Policy, "four_eyes: true")
		hooks.Scenario = func(o *scenario.Options) {
			for _, name := range operators {
				o.Operators = append(o.Operators, fmt.Sprintf("{name: %s, ssh_key: %q}", name, signed.Line(signer(name).PublicKey())))
			}
		}
	}
	var err error
	if s.World, err = virtual.NewWorld(context.Background(), server, virtual.Options{Shape: kind, Dir: t.TempDir(), Hooks: hooks}); err != nil {
		return nil, err
	}
	s.Person = s.act
	s.Before = s.begins
	s.reset()
	return s, nil
}

func (s *stage) reset() {
	if v, err := s.Acts.Stores[scenario.Alias].Published(context.Background(), s.Key.Stores[0].Path); err == nil {
		s.old = v.Fingerprint()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.tasks, s.stays = rotation.State{}, 0, map[rotation.State]int{}
	s.at, s.before, s.leave, s.problems = map[rotation.State]func() error{}, map[string]func() error{}, nil, nil
	s.after = time.Duration(s.Key.Policy.Period)
}

func (s *stage) problem(err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.problems = append(s.problems, err)
	}
}

// enter sends what is to be sent when a rotation enters a state. It does so within the workflow task: the message is the next
// thing that the rotation hears, before any time has passed.
func (s *stage) enter(ctx workflow.Context, state rotation.State) {
	if workflow.IsReplaying(ctx) {
		return
	}
	s.mu.Lock()
	s.now, s.tasks = state, 0
	s.stays[state]++
	do := s.at[state]
	delete(s.at, state)
	s.mu.Unlock()
	if do != nil {
		s.problem(do())
	}
}

// begins is called when an activity begins.
func (s *stage) begins(activity string) {
	s.mu.Lock()
	do := s.before[activity]
	delete(s.before, activity)
	s.mu.Unlock()
	if do != nil {
		s.problem(do())
	}
}

// suggest is a gRPC interceptor: it says in Temporal's place that a history has grown too long, which Temporal says after
// thousands of events.
func (s *stage) suggest(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return err
	}
	switch r := reply.(type) {
	case *workflowservice.PollWorkflowTaskQueueResponse:
		s.mark(r)
	case *workflowservice.RespondWorkflowTaskCompletedResponse:
		s.mark(r.GetWorkflowTask())
	case *workflowservice.GetWorkflowExecutionHistoryResponse:
		if q, ok := req.(*workflowservice.GetWorkflowExecutionHistoryRequest); ok {
			s.markAll(q.GetExecution().GetRunId(), r.GetHistory())
		}
	}
	return nil
}

func (s *stage) mark(task *workflowservice.PollWorkflowTaskQueueResponse) {
	if task.GetQuery() != nil || task.GetStartedEventId() == 0 || !strings.HasPrefix(task.GetWorkflowExecution().GetWorkflowId(), workflows.ID("")) {
		return
	}
	run := task.GetWorkflowExecution().GetRunId()
	s.mu.Lock()
	s.tasks++
	if l := s.leave; l != nil && l.in == s.now && l.stay == s.stays[s.now] && l.at == s.tasks {
		s.suggested[suggestion(run, task.GetStartedEventId())] = true
		s.leave = nil
	}
	s.mu.Unlock()
	s.markAll(run, task.GetHistory())
}

func suggestion(run string, event int64) string { return fmt.Sprintf("%s/%d", run, event) }

func (s *stage) markAll(run string, h *historypb.History) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range h.GetEvents() {
		if a := e.GetWorkflowTaskStartedEventAttributes(); a != nil && s.suggested[suggestion(run, e.GetEventId())] {
			a.SuggestContinueAsNew = true
		}
	}
}

// send sends a signal.
func (s *stage) send(kind rotation.DecisionKind, m rotation.DecisionMessage) error {
	m.ID, m.By = uuid.NewString(), "somebody"
	return s.Temporal.SignalWorkflow(context.Background(), workflows.ID(s.Key.Name), "", string(kind), m)
}

// act is what people do: whatever they are asked for, and under four eyes two of them sign.
func (s *stage) act(ctx context.Context, n rotation.Notification) error {
	s.mu.Lock()
	wait := s.leave != nil && s.leave.stays && s.leave.in == s.now
	s.mu.Unlock()
	if wait {
		return nil // the reminder reaches the next run
	}
	for range operators {
		status, err := s.Status(ctx)
		if err != nil {
			return err
		}
		if status.Signing == nil || !slices.Contains(status.Accepts, rotation.Approve) {
			err := s.Act(ctx, n)
			if errors.Is(err, client.ErrNotRunning) || errors.As(err, new(*rotation.RejectedDecision)) {
				return nil // what was asked is not asked any more
			}
			return err
		}
		name := operators[len(status.Signing.Signed)%len(operators)]
		m := rotation.DecisionMessage{ID: uuid.NewString(), By: name, Why: "looked", SignedAt: s.Now()}
		if m.Signature, err = signed.Sign(signer(name), signed.Text(status.Signing.Question, m)); err != nil {
			return err
		}
		if _, err := client.New(s.Temporal).Decide(ctx, s.Key.Name, rotation.Approve, m); err != nil {
			return err
		}
	}
	return nil
}

// played is a rotation that has ended.
type played struct {
	runs   []*historypb.History
	trails []corpus.Trail
}

func (p played) turns() (all []corpus.Turn) {
	for _, t := range p.trails {
		all = append(all, t.Turns()...)
	}
	return all
}

// patience is how long a rotation may take; most are over in less than a second.
const patience = 2 * time.Minute

// play lets a rotation run to its end.
func (s *stage) play(in workflows.Input) (p played, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, closed, err := s.Start(ctx, s.after, in)
	switch {
	case err != nil:
		status, _ := s.Status(context.Background())
		return p, fmt.Errorf("%w; it is in %s:\n%s", err, s.now, status.Details)
	case closed != "":
		return p, errors.New(closed)
	}
	s.mu.Lock()
	err = errors.Join(s.problems...)
	s.mu.Unlock()
	if err != nil {
		return p, err
	}
	if err := s.holds(in); err != nil {
		return p, err
	}
	if p.runs, err = replaytest.CheckAll(ctx, s.Temporal, workflows.ID(s.Key.Name)); err != nil {
		return p, err
	}
	for _, run := range p.runs {
		t, err := corpus.Follow(run)
		if err != nil {
			return p, err
		}
		p.trails = append(p.trails, t)
	}
	return p, nil
}

// holds checks the invariants.
func (s *stage) holds(in workflows.Input) error {
	if s.shape.ByHand {
		// rekey deletes no key that people made: it asks them to.
		published := s.Cloud.PublishedKeys()
		for id := range s.Cloud.LiveKeys() {
			if !slices.Contains(slices.Collect(maps.Values(published)), id) {
				if err := s.OpenAI.DeleteKey(id); err != nil {
					return err
				}
			}
		}
	}
	first := slices.ContainsFunc(in.Emergencies, func(d rotation.Decision) bool { return d.RevokeFirst })
	var broken []string
	for _, b := range s.Check() {
		if first && strings.Contains(b, "I1:") {
			s.excused[b] = true
		}
		if !s.excused[b] {
			broken = append(broken, b)
		}
	}
	if len(broken) > 0 {
		return errors.New(strings.Join(broken, "; "))
	}
	return nil
}
