package simcloud

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// ServeGRPC runs a gRPC service on loopback, behind the cloud's faults and journal. target names what a request
// is about. The returned function stops it.
func (c *Cloud) ServeGRPC(service string, target func(request any) string, register func(*grpc.Server)) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("simulated %s: %w", service, err)
	}
	intercept := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if agent := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(agent) > 0 && c.spares(agent[0]) {
			return handler(ctx, req)
		}
		// Of their own, because a CommitLate fills them after this function has returned.
		var resp any
		var err error
		failure := c.Call(ctx, service, path.Base(info.FullMethod), target(req), func() {
			// What was begun is finished, also when the caller has gone.
			resp, err = handler(context.WithoutCancel(ctx), req)
		})
		if failure != nil {
			return nil, failure.status().Err()
		}
		return resp, err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(intercept))
	register(server)
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), server.Stop, nil
}

// status is how a gRPC client sees the failure: a connection that breaks is Unavailable.
func (f *Failure) status() *status.Status {
	if f.Drop {
		return status.New(codes.Unavailable, "error reading from server: EOF")
	}
	code := map[int]codes.Code{
		http.StatusBadRequest: codes.InvalidArgument, http.StatusUnauthorized: codes.Unauthenticated,
		http.StatusForbidden: codes.PermissionDenied, http.StatusNotFound: codes.NotFound,
		http.StatusConflict: codes.Aborted, http.StatusPreconditionFailed: codes.FailedPrecondition, http.StatusTooManyRequests: codes.ResourceExhausted,
		http.StatusServiceUnavailable: codes.Unavailable, http.StatusGatewayTimeout: codes.DeadlineExceeded,
	}[f.Code]
	if code == codes.OK {
		code = codes.Internal
	}
	s := status.New(code, "injected failure")
	if f.RetryAfter > 0 {
		// google.rpc.RetryInfo is how Google's APIs say Retry-After over gRPC.
		if with, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)}); err == nil {
			s = with
		}
	}
	return s
}

// maxBody is more than any request to a simulated service needs.
const maxBody = 1 << 20

// Fail writes the body of an injected HTTP failure in the way of the service.
type Fail func(w http.ResponseWriter, code int)

// ServeHTTP runs an HTTP service on loopback, behind the cloud's faults and journal. route names the method and
// the target of a request. The returned function stops it.
func (c *Cloud) ServeHTTP(service string, route func(*http.Request) (method, target string), fail Fail, next http.Handler) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("simulated %s: %w", service, err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.spares(r.UserAgent()) {
			next.ServeHTTP(w, r)
			return
		}
		// Read the body now: net/http notices that a caller has gone only when its request was read to the end, and
		// a CommitLate needs the body after that.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			fail(w, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		method, target := route(r)
		answer := &buffered{header: http.Header{}, code: http.StatusOK}
		failure := c.Call(r.Context(), service, method, target, func() {
			next.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
		})
		switch {
		case failure == nil:
			answer.copyTo(w)
		case failure.Cut:
			w.Header().Set("Content-Length", strconv.Itoa(len(answer.body)))
			answer.body = answer.body[:len(answer.body)/2]
			answer.copyTo(w)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case failure.Drop:
			panic(http.ErrAbortHandler)
		default:
			if failure.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(failure.RetryAfter/time.Second)))
			}
			fail(w, failure.Code)
		}
	})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

// buffered holds an answer back until it is known whether the caller may see it.
type buffered struct {
	header http.Header
	code   int
	body   []byte
}

func (b *buffered) Header() http.Header  { return b.header }
func (b *buffered) WriteHeader(code int) { b.code = code }
func (b *buffered) Write(p []byte) (int, error) {
	b.body = append(b.body, p...)
	return len(p), nil
}

func (b *buffered) copyTo(w http.ResponseWriter) {
	for k, v := range b.header {
		w.Header()[k] = v
	}
	w.WriteHeader(b.code)
	_, _ = w.Write(b.body)
}
