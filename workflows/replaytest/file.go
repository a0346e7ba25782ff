package replaytest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Ext is how the names of files with histories end: JSON as Temporal writes it, one run a line, compressed.
const Ext = ".json.gz"

// readable lets payloads that are JSON stay JSON, as the temporal command line does: a person can read them, and they
// compress better.
var readable = map[string]any{commonpb.EnablePayloadShorthandMetadataKey: true}

// Encode writes the runs of a workflow as a file of the corpus, without what no replay reads.
func Encode(runs []*historypb.History) ([]byte, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	for _, h := range runs {
		trimmed := proto.CloneOf(h)
		for _, e := range trimmed.GetEvents() {
			trim(e.ProtoReflect())
			if began := e.GetWorkflowTaskStartedEventAttributes(); began == nil && e.GetEventId() > 1 {
				e.EventTime.Nanos = 0 // the clock of a workflow is that of its tasks
			}
			if task := e.GetWorkflowTaskScheduledEventAttributes(); task != nil {
				task.TaskQueue = nil // a worker's own queue is named after its machine
			}
			if activity := e.GetActivityTaskScheduledEventAttributes(); activity != nil {
				activity.Input = nil
			}
			if update := e.GetWorkflowExecutionUpdateCompletedEventAttributes(); update != nil {
				update.Outcome = nil
			}
		}
		text, err := temporalproto.CustomJSONMarshalOptions{Metadata: readable}.Marshal(trimmed)
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(text), "@"+host+"@") || strings.Contains(string(text), `"`+host+":") {
			return nil, fmt.Errorf("the history names the host %s", host)
		}
		if _, err := w.Write(append(text, '\n')); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// trimmed are fields that no replay reads: who did something, numbers of requests and tasks of the server, what a UI shows.
var trimmed = map[protoreflect.Name]bool{
	"identity": true, "request_id": true, "task_id": true, "worker_version": true, "binary_checksum": true, "user_metadata": true,
	"versioning_behavior": true, "history_size_bytes": true, "time_skipping_config": true, "header": true, "metering_metadata": true,
}

func trim(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case trimmed[f.Name()]:
			m.Clear(f)
		case f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap():
			trim(v.Message())
		}
		return true
	})
}

// Decode reads a file of the corpus.
func Decode(file []byte) (runs []*historypb.History, err error) {
	zipped, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("it is not compressed by gzip: %w", err)
	}
	text, err := io.ReadAll(zipped)
	if err != nil {
		return nil, fmt.Errorf("it ends in the middle, or is not whole: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for n := 1; lines.Scan(); n++ {
		h := &historypb.History{}
		if err := (temporalproto.CustomJSONUnmarshalOptions{Metadata: readable}).Unmarshal(lines.Bytes(), h); err != nil {
			return nil, fmt.Errorf("line %d is no history in JSON: %w", n, err)
		}
		if len(h.GetEvents()) == 0 {
			return nil, fmt.Errorf("line %d is a history without events", n)
		}
		runs = append(runs, h)
	}
	if len(runs) == 0 {
		return nil, errors.New("it holds no history")
	}
	return runs, lines.Err()
}
