package e2e

import (
	"path/filepath"
	"testing"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
)

func TestARotationInGraceSurvivesARestartOfTheTemporalServer(t *testing.T) {
	t.Parallel()
	w := start(t, fixture{
		name: "ci", add: (*scenario.Scenario).Google, scenario: scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)},
		temporal: testenv.TemporalOptions{Own: &devserver.Options{DatabaseFile: filepath.Join(t.TempDir(), "temporal.db")}},
	})
	run := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	if err := w.RestartServer(); err != nil {
		t.Fatal(err)
	}
	w.waitFor(rotation.Grace)
	w.decide(rotation.FinishGrace)
	w.replaced(w.end(run))
}
