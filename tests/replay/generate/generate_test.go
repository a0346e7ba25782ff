package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/server/common/headers"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/tests/replay/corpus"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// command is how the corpus is made.
const command = ".ci/run corpus"

// generator makes the histories of one shape.
type generator struct {
	t      *testing.T
	server *devserver.Server
	shape  corpus.Shape
	// keep takes what was played, under a name; have gives what is kept already.
	keep func(name, turn string, p played) error
	have func(name string) (played, bool)

	stage *stage
	plays int
	// asItIs is how each course goes when nothing happens on it.
	asItIs map[string]played
}

// maxPlays is how many rotations one world has: what they leave in its stores grows.
const maxPlays = 30

// fresh gives a stage on which nothing has gone wrong.
func (g *generator) fresh() (*stage, error) {
	if g.plays++; g.stage != nil && g.plays > maxPlays {
		g.end()
	}
	if g.stage == nil {
		var err error
		if g.stage, err = newStage(g.t, g.server, g.shape); err != nil {
			return nil, err
		}
		g.plays = 1
	}
	g.stage.reset()
	return g.stage, nil
}

func (g *generator) end() {
	if g.stage != nil {
		g.stage.Close()
		g.stage = nil
	}
}

// play lets a rotation go a course, with something that happens on it.
func (g *generator) play(c course, happens func(*stage)) (played, error) {
	s, err := g.fresh()
	if err != nil {
		return played{}, err
	}
	in := workflows.Input{Key: s.Key, Reason: rotation.Manual, By: "test"}
	if c.set != nil {
		err = c.set(s, &in)
	}
	var p played
	if err == nil {
		s.mu.Lock()
		s.now, s.tasks, s.stays = rotation.State{}, 0, map[rotation.State]int{}
		if happens != nil {
			happens(s)
		}
		s.mu.Unlock()
		p, err = s.play(in)
	}
	if err != nil {
		g.end()
		return p, fmt.Errorf("course %s of %s: %w", c.name, g.shape, err)
	}
	return p, nil
}

// walk goes every course as it is.
func (g *generator) walk() error {
	g.asItIs = map[string]played{}
	for _, c := range courses {
		if c.fits != nil && !c.fits(g.shape) {
			continue
		}
		name := fmt.Sprintf("go-on.%s.%s", c.name, g.shape)
		p, ok := g.have(name)
		var err error
		for n := 0; n < tries && !ok; n++ {
			p, err = g.play(c, nil)
			ok = err == nil
		}
		if !ok {
			return err
		}
		g.asItIs[c.name] = p
		if err := g.keep(name, fmt.Sprintf("%s on the course %s: %s", corpus.GoOn, c.name, g.shape), p); err != nil {
			return err
		}
	}
	return nil
}

// tries is how often a turn is tried: what comes first, an answer or a notification, is not always the same.
const tries = 10

// make makes the history of a turn.
func (g *generator) make(turn corpus.Turn) error {
	problem := errors.New("no course comes to this state")
	name := strings.NewReplacer("/", ".", " ", ".").Replace(turn.String())
	if p, ok := g.have(name); ok && slices.Contains(p.turns(), turn) {
		return g.keep(name, turn.String(), p)
	}
	all := g.attempts(turn)
	for n := 0; n < tries && len(all) > 0; n++ {
		a := all[n%len(all)]
		p, err := g.play(a.course, a.happens)
		switch {
		case err != nil:
			problem = err
		case !slices.Contains(p.turns(), turn):
			problem = fmt.Errorf("on the course %s it does not happen: %v", a.course.name, p.trails[0].Visits)
		default:
			return g.keep(name, turn.String(), p)
		}
	}
	return fmt.Errorf("%s: %w", turn, problem)
}

// attempt is a course, and what happens on it.
type attempt struct {
	course  course
	happens func(*stage)
}

// attempts are how a turn may come about, the likeliest first.
func (g *generator) attempts(turn corpus.Turn) (all []attempt) {
	var later []attempt
	for _, c := range courses {
		p, ok := g.asItIs[c.name]
		if !ok || len(p.trails) == 0 {
			continue
		}
		trail := p.trails[0]
		i := slices.IndexFunc(trail.Visits, func(v corpus.Visit) bool { return v.State == turn.State })
		switch {
		case i < 0:
		case turn.Action == corpus.ContinueAsNew:
			for n, d := range departures(p, i) {
				a := attempt{c, func(s *stage) { s.leave = &d }}
				if n == 0 {
					all = append(all, a)
				} else {
					later = append(later, a)
				}
			}
		case !trail.Passing(i):
			all = append(all, attempt{c, func(s *stage) {
				s.at[turn.State] = func() error { return s.message(turn.Action) }
			}})
		}
	}
	return append(all, later...)
}

// departures are when a rotation may be told to go on in a new run so that it does so in its i-th visit: in the workflow
// task in which it comes there, or while it waits there.
func departures(p played, i int) (all []departure) {
	visits, events := p.trails[0].Visits, p.runs[0].GetEvents()
	stay := func(i int) (n int) {
		for _, v := range visits[:i+1] {
			if v.State == visits[i].State {
				n++
			}
		}
		return n
	}
	switch {
	case i == 0:
		return []departure{{at: 1}}
	case !p.trails[0].Passing(i - 1):
		n := 0
		for _, e := range events[visits[i-1].Task:visits[i].Task] {
			if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED {
				n++
			}
		}
		for _, at := range []int{n, n + 1, n - 1} {
			if at > 0 {
				all = append(all, departure{in: visits[i-1].State, stay: stay(i - 1), at: at})
			}
		}
	}
	return append(all, departure{in: visits[i].State, stay: stay(i), at: 1, stays: true})
}

// message sends what an action is.
func (s *stage) message(a corpus.Action) error {
	switch a {
	case corpus.RollBack:
		return s.send(rotation.RollBack, rotation.DecisionMessage{Why: "the new key is no good"})
	case corpus.Emergency:
		return s.send(rotation.RaiseEmergency, rotation.DecisionMessage{Why: "all of it was in a log"})
	case corpus.LeakedKey:
		return s.send(rotation.RaiseEmergency, rotation.DecisionMessage{Why: "the old one was in a log", Leaked: []string{s.old}})
	}
	return fmt.Errorf("nobody sends anything for %s", a)
}

// turns makes histories of a shape on a server of its own: what happened on a server makes it slower.
func turns(t *testing.T, g *generator, wanted func(corpus.Turn) bool) {
	server, err := devserver.Start(context.Background(), devserver.Options{SearchAttributes: workflows.SearchAttributes(), SkipTime: true})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = server.Stop() }()
	g.t, g.server = t, server
	defer g.end()
	if err := g.walk(); err != nil {
		t.Error(err)
		return
	}
	for _, turn := range corpus.Turns() {
		if turn.Shape == g.shape && turn.Action != corpus.GoOn && turn.NotPossible() == "" && wanted(turn) {
			if err := g.make(turn); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestTheTurnsOfTheCorpusAreMade makes the corpus where REKEY_CORPUS names a folder; the scenes that other tests have put
// there become part of it. What is there already is not made again, so it goes on where it was interrupted.
func TestTheTurnsOfTheCorpusAreMade(t *testing.T) {
	dir := os.Getenv(replaytest.EnvCorpus)
	if dir == "" {
		t.Skipf("%s names no folder for the corpus", replaytest.EnvCorpus)
	}
	began := time.Now()
	var mu sync.Mutex
	made := map[string]string{}
	keep := func(name, turn string, p played) error {
		content, err := replaytest.Encode(p.runs)
		if err != nil {
			return err
		}
		mu.Lock()
		made[name+replaytest.Ext] = turn
		mu.Unlock()
		return os.WriteFile(filepath.Join(dir, name+replaytest.Ext), content, 0o644)
	}
	have := func(name string) (p played, ok bool) {
		content, err := os.ReadFile(filepath.Join(dir, name+replaytest.Ext))
		if err != nil {
			return p, false
		}
		if p.runs, err = replaytest.Decode(content); err != nil {
			return p, false
		}
		for _, run := range p.runs {
			trail, err := corpus.Follow(run)
			if err != nil {
				return p, false
			}
			p.trails = append(p.trails, trail)
		}
		return p, true
	}
	work := make(chan corpus.Shape)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for shape := range work {
				turns(t, &generator{shape: shape, keep: keep, have: have}, func(corpus.Turn) bool { return true })
				t.Logf("%s: after %.0f s", shape, time.Since(began).Seconds())
			}
		})
	}
	for _, shape := range corpus.Shapes() {
		work <- shape
	}
	close(work)
	all.Wait()
	if t.Failed() {
		return
	}
	if err := seal(t.Context(), dir, made); err != nil {
		t.Error(err)
	}
	fmt.Printf("replay corpus: %d files in %.0f s\n", len(made), time.Since(began).Seconds())
}

// So that the generator does not rot between two corpora: some of its turns, and what it makes can be read.
func TestTheGeneratorMakesATurnOfEveryAction(t *testing.T) {
	if os.Getenv(replaytest.EnvCorpus) != "" {
		t.Skip("all turns are made")
	}
	left := map[corpus.Action]rotation.State{
		corpus.ContinueAsNew: at(rotation.BothKeys, rotation.StepGrace),
		corpus.Emergency:     at(rotation.ForwardOnly, rotation.StepDelete),
		corpus.LeakedKey:     at(rotation.Staged, rotation.StepVerify),
		corpus.RollBack:      at(rotation.BothKeys, rotation.StepSoak),
	}
	shape := corpus.Shape{TwoStores: true, FourEyes: true}
	made := map[string]bool{}
	nothing := func(string) (played, bool) { return played{}, false }
	turns(t, &generator{shape: shape, have: nothing, keep: func(_, turn string, p played) error {
		content, err := replaytest.Encode(p.runs)
		if err != nil {
			return err
		}
		f, err := corpus.NewFile(turn, turn, content)
		if err != nil {
			return err
		}
		if f.Runs != len(p.runs) || f.Tasks == 0 {
			return fmt.Errorf("%s: of %d runs %d were kept, with %d workflow tasks", turn, len(p.runs), f.Runs, f.Tasks)
		}
		made[turn] = true
		return nil
	}}, func(turn corpus.Turn) bool { return left[turn.Action] == turn.State })
	for action, state := range left {
		if turn := (corpus.Turn{State: state, Action: action, Shape: shape}); !made[turn.String()] {
			t.Errorf("it makes no history of %s", turn)
		}
	}
}

// seal writes the manifest of what is in a folder.
func seal(ctx context.Context, dir string, turns map[string]string) error {
	commit, err := revision(ctx)
	if err != nil {
		return err
	}
	m := corpus.Manifest{Made: corpus.Provenance{
		Command: command, Commit: commit, Server: headers.ServerVersion, SDK: temporal.SDKVersion, Go: runtime.Version(), Date: time.Now().UTC().Format(time.DateOnly),
	}}
	files, err := filepath.Glob(filepath.Join(dir, "*"+replaytest.Ext))
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f, err := corpus.NewFile(filepath.Base(file), turns[filepath.Base(file)], content)
		if err != nil {
			return err
		}
		m.Files = append(m.Files, f)
	}
	return m.Write(dir)
}

// revision is the commit of the code that runs.
func revision(ctx context.Context) (string, error) {
	head, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("git does not say which commit this is: %w", err)
	}
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ":/", ":!/tests/replay/testdata").Output()
	if err != nil {
		return "", fmt.Errorf("git does not say what is changed: %w", err)
	}
	text := string(bytes.TrimSpace(head))
	if len(changed) > 0 {
		text += ", modified"
	}
	return text, nil
}
