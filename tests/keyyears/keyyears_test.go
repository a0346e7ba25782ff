package keyyears

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

const year = 365 * 24 * time.Hour

// EnvFor is how long keys live, in real time, like 10m; empty lets each shape live half a year.
const envFor = "REKEY_KEY_YEARS"

func start(t *testing.T) *devserver.Server {
	t.Helper()
	server, err := devserver.Start(t.Context(), devserver.Options{SearchAttributes: workflows.SearchAttributes(), SkipTime: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

func TestKeysOfEveryShapeLiveForYearsAndTheInvariantsHold(t *testing.T) {
	server := start(t)
	span, until := year/2, time.Time{}
	if text := os.Getenv(envFor); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s=%q is not a valid duration: %v", envFor, text, err)
		}
		span, until = 2*year, time.Now().Add(d)
	}
	began := time.Now()
	type end struct {
		w   *world
		out lived
		err error
	}
	n := 0
	ends := make(chan end)
	launch := func() {
		n++
		w, err := newWorld(server, n, shapes[n%len(shapes)], t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			out, err := w.live(context.Background(), span, false)
			ends <- end{w, out, err}
		}()
	}
	for range shapes {
		launch()
	}
	var all lived
	var checks, messages int64
	for open := len(shapes); open > 0; open-- {
		e := <-ends
		if e.err != nil {
			t.Errorf("%s: %v", e.w.name, e.err)
		}
		e.w.check(t)
		e.w.stop()
		for _, why := range e.out.NotDue {
			t.Errorf("%s: a rotation that was due: %s", e.w.name, why)
		}
		for _, f := range e.out.FollowUps {
			t.Errorf("%s: follow-up: %s", e.w.name, f)
		}
		t.Logf("%s: %d rotations, %d health checks, %d notifications: %v", e.w.name, e.out.Rotations, e.w.checks.Load(), e.w.messages.Load(), e.out.Lived)
		all.Lived += e.out.Lived
		all.Rotations += e.out.Rotations
		all.RolledBack += e.out.RolledBack
		checks += e.w.checks.Load()
		messages += e.w.messages.Load()
		if time.Now().Before(until) && !t.Failed() {
			launch()
			open++
		}
	}
	fmt.Printf("key-years: %.1f in %.0f s, with %d rotations (%d rolled back), %d health checks in grace, %d notifications to people\n",
		float64(all.Lived)/float64(year), time.Since(began).Seconds(), all.Rotations, all.RolledBack, checks, messages)
}

func TestAWeekOfGraceTakesSeconds(t *testing.T) {
	server := start(t)
	w, err := newWorld(server, 0, shape{name: "week", stores: shapes[1].stores, policy: []string{"grace: 7d", "soak: 24h"}}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	began := time.Now()
	out, err := w.live(t.Context(), 24*time.Hour, false)
	if err != nil || out.Rotations != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	w.check(t)
	t.Logf("%v of virtual time in %v, %d health checks", out.Lived, time.Since(began), w.checks.Load())
}

func TestAScheduleBeatsEveryDayAndRotatesWhatIsDue(t *testing.T) {
	server := start(t)
	w, err := newWorld(server, 0, shapes[0], t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	began := time.Now()
	out, err := w.live(t.Context(), year/4, true)
	if err != nil {
		t.Fatal(err)
	}
	var last rotation.Result // it goes on after the beat that started it
	if err := client.Wait(t.Context(), w.temporal, workflows.ID(w.key.Name), "", &last); err != nil {
		t.Fatal(err)
	}
	w.check(t)
	if out.Beats < 90 || w.rotations.Load() != 1 {
		t.Errorf("%d beats, %d rotations; want 90 and 1", out.Beats, w.rotations.Load())
	}
	t.Logf("%d beats in %v", out.Beats, time.Since(began))
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
