package manykeys

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// envGrace is how many rotations sit in grace at once; without it the benchmark is skipped.
const envGrace = "REKEY_BENCH_GRACE"

// BenchmarkGrace brings REKEY_BENCH_GRACE rotations into grace, tells what they cost while nothing happens, and then
// lets all their timers fire within one minute. Before that the workers forget every rotation, as after a deploy.
func BenchmarkGrace(b *testing.B) {
	keys := size(b, envGrace, 0)
	if keys == 0 {
		b.Skipf("set %s, like %s=10000", envGrace, envGrace)
	}
	for range b.N {
		b.StopTimer()
		file := filepath.Join(b.TempDir(), "temporal.db")
		w := newEnvOn(b, keys, nil, &devserver.Options{DatabaseFile: file})
		empty, emptyHeap := diskOf(b, file), heap()

		// Enough for all to get there on two cores.
		end := time.Now().Add(time.Minute + time.Duration(keys)*200*time.Millisecond)
		var all sync.WaitGroup
		turns := make(chan struct{}, 50)
		b.StartTimer()
		begin := time.Now()
		for _, k := range w.keys {
			turns <- struct{}{}
			all.Go(func() {
				defer func() { <-turns }()
				fires := end.Add(rand.N(time.Minute))
				k.Policy.Grace = rotation.Duration(time.Until(fires))
				k.Policy.MaxGrace = k.Policy.Grace + rotation.Duration(24*time.Hour)
				w.start(k, rotation.Scheduled)
			})
		}
		all.Wait()
		inGrace := fmt.Sprintf("RekeyPhase = '%s' AND ExecutionStatus = 'Running'", rotation.Grace)
		w.countReaches(inGrace, keys, end)
		b.ReportMetric(time.Since(begin).Seconds(), "s-to-grace")

		b.ReportMetric(float64(diskOf(b, file)-empty)/float64(keys)/1024, "KiB-disk/rotation")
		b.ReportMetric(float64(rss(b))/(1<<20), "MiB-process")
		cached := heap()
		sdkworker.PurgeStickyWorkflowCache()
		b.ReportMetric((cached-heap())/float64(keys)/1024, "KiB-worker/rotation")
		b.ReportMetric((heap()-emptyHeap)/float64(keys)/1024, "KiB-server-and-cloud/rotation")
		const watch = 20 * time.Second
		busy := cpu(b)
		time.Sleep(watch) // what is measured is the passing of time
		b.ReportMetric(100*(cpu(b)-busy).Seconds()/watch.Seconds(), "%cpu-idle")

		w.countReaches("ExecutionStatus = 'Running'", 0, end.Add(time.Duration(keys)*time.Second+10*time.Minute))
		b.ReportMetric(time.Since(end).Seconds(), "s-to-end-all-timers")
		b.StopTimer()
		for _, k := range w.keys {
			var res rotation.Result
			if err := client.New(w.Client).WaitRun(context.Background(), workflows.ID(k.Name), "", &res); err != nil || res.Phase != rotation.Completed || len(res.Revoked) != 1 {
				b.Fatalf("%s: %+v, %v", k.Name, res, err)
			}
		}
		b.ReportMetric(0, "ns/op")
	}
}

// countReaches waits until Temporal counts so many workflows.
func (w *env) countReaches(query string, want int, until time.Time) {
	w.Helper()
	for {
		n, err := w.Client.CountWorkflow(context.Background(), &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		if err != nil {
			w.Fatal(err)
		}
		if n.GetCount() == int64(want) {
			return
		}
		if time.Now().After(until) {
			w.Fatalf("%d are counted by %s, and not %d", n.GetCount(), query, want)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// diskOf is the size of the database in bytes, with its log.
func diskOf(b *testing.B, file string) int64 {
	b.Helper()
	files, err := filepath.Glob(file + "*")
	if err != nil {
		b.Fatal(err)
	}
	var sum int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			b.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

// heap is how many bytes are in use.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// rss is what the process holds of the machine's memory, in bytes; 0 where the system does not tell.
func rss(b *testing.B) (bytes int64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var pages int64
	if _, err := fmt.Fscan(strings.NewReader(string(text)), new(int64), &pages); err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// cpu is the time that the process has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
