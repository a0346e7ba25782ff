package e2e

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

func TestARotationInGraceSurvivesARestartOfTheTemporalServer(t *testing.T) {
	t.Parallel()
	o := devserver.Options{DatabaseFile: filepath.Join(t.TempDir(), "temporal.db")}
	own, err := devserver.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	w := newTownOn(t, own, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	run := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	_, port, err := net.SplitHostPort(own.HostPort())
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Stop(); err != nil {
		t.Fatal(err)
	}
	if o.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	again, err := devserver.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Stop() })
	w.waitFor(rotation.Grace)
	w.decide(rotation.FinishGrace)
	w.replaced(w.end(run))
}
