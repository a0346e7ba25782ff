package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/workflows"
)

// envCorpus is a folder; if set, the histories of the scenarios named below are written there.
const envCorpus = "REKEY_CORPUS"

// inCorpus are the tests whose histories go into the corpus of tests/replay.
var inCorpus = []string{
	"TestOneKeyRotatesOnceAtATime", "TestATerminatedRotationsDutyIsInherited", "TestARollBackAfterPromoteGoesThroughReverse",
	"TestAWorkerKilledWhileARollBackDiscardsLosesNothing/killed_just_before_Discard", "TestAMintThatTakesEffectAfterItsRetryIsSwept",
	"TestAnEmergencyStopsARotationInGraceAndAnotherFollowsAtOnce", "TestASecondSupplyReplacesAFirstThatIsStillBeingChecked",
}

// replayed replays the history of a rotation with today's code, from its beginning: whatever happened to its
// workers, the code must come to the same decisions. It writes the history into the corpus if that is wanted.
func (w *town) replayed(run client.WorkflowRun) {
	w.Helper()
	ctx := context.Background()
	h := &historypb.History{}
	iter := w.client.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			w.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	r := worker.NewWorkflowReplayer()
	r.RegisterWorkflow(workflows.RotateKey)
	if err := r.ReplayWorkflowHistory(silent, h); err != nil {
		w.Errorf("the history does not replay: %v", err)
	}
	dir := os.Getenv(envCorpus)
	for _, name := range inCorpus {
		if dir == "" || name != w.Name() {
			continue
		}
		text, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(h)
		if err == nil {
			file := strings.ToLower(regexp.MustCompile(`[^A-Za-z]+`).ReplaceAllString(name, "-")) + ".json"
			err = os.WriteFile(filepath.Join(dir, file), append(text, '\n'), 0o644)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}
