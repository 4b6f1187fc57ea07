package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
	"lookalike.example/client/internal/clienttest"
)

// No photo is sent while 32 wait for their answers, and none is read before its turn.
func TestWindow(t *testing.T) {
	tour := tourOf(t, 40)
	last := filepath.Join(tour.folder, tour.files[39])
	synctest.Test(t, func(t *testing.T) {
		stream := &countingStream{}
		unanswered := make(chan struct{}, window)
		unsent := make(chan []item, 1)
		go func() { unsent <- tour.sendPhotos(t.Context(), stream, unanswered) }()
		synctest.Wait()
		if stream.sent != 32 {
			t.Errorf("%d were sent before an answer", stream.sent)
		}
		<-unanswered
		synctest.Wait()
		if stream.sent != 33 {
			t.Errorf("%d were sent after one answer", stream.sent)
		}
		if err := os.Remove(last); err != nil {
			t.Fatal(err)
		}
		for range 7 {
			<-unanswered
		}
		if left := <-unsent; len(left) != 1 || left[0].ID != tour.files[39] || left[0].Error.Code != "NOT_FOUND" {
			t.Errorf("not sent: %v", left)
		}
		if stream.sent != 39 || !stream.closed {
			t.Errorf("%d were sent in all, and the end told: %t", stream.sent, stream.closed)
		}
	})
}

// Photos that are gone fail alone, more of them than the window holds, and the answers are in the order of their ids
// however they came.
func TestEmbedStream(t *testing.T) {
	tour := tourOf(t, 100)
	gone := func(i int) bool { return i >= 10 && i < 50 }
	for i, name := range tour.files {
		if gone(i) {
			if err := os.Remove(filepath.Join(tour.folder, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	items, err := tour.embedStream(t.Context(), clienttest.Connect(t, &streamServer{answers: 100}))
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range items {
		if item.ID != tour.files[i] || (item.Error != nil) != gone(i) {
			t.Errorf("item %d: %+v", i, item)
		}
	}
	if len(items) != 100 || items[0].Dim != 2 || items[0].Norm != 5 {
		t.Errorf("%d items, the first %+v", len(items), items[0])
	}
}

// A server that ends the stream before it has answered everything is a failure, at once and not at the deadline.
func TestStreamEndsEarly(t *testing.T) {
	tour := tourOf(t, 100)
	_, err := tour.embedStream(t.Context(), clienttest.Connect(t, &streamServer{answers: 4}))
	if err == nil || !strings.Contains(err.Error(), "after 4 of 100 photos") {
		t.Errorf("told %v", err)
	}
}

// countingStream takes photos and answers none.
type countingStream struct {
	photoStream
	sent   int
	closed bool
}

func (s *countingStream) Send(*lookalikev1.EmbedStreamRequest) error { s.sent++; return nil }
func (s *countingStream) CloseSend() error                           { s.closed = true; return nil }

// streamServer answers some photos, two at a time and the later one first, and ends the stream when it has read a window
// more than that.
type streamServer struct {
	lookalikev1.UnimplementedEmbeddingServiceServer
	answers int
}

func (s *streamServer) EmbedStream(
	stream grpc.BidiStreamingServer[lookalikev1.EmbedStreamRequest, lookalikev1.EmbedStreamResponse],
) error {
	var unanswered []string
	answered := 0
	for read := 0; read < s.answers+window; read++ {
		request, err := stream.Recv()
		if err != nil { // the client has sent everything
			return nil
		}
		unanswered = append(unanswered, request.GetId())
		if len(unanswered) < 2 || answered == s.answers {
			continue
		}
		for _, id := range slices.Backward(unanswered) {
			embedding := &lookalikev1.Vector{Values: []float32{3, 4}}
			if err := stream.Send(&lookalikev1.EmbedStreamResponse{
				Id: id, Result: &lookalikev1.EmbedStreamResponse_Embedding{Embedding: embedding},
			}); err != nil {
				return err
			}
		}
		answered += len(unanswered)
		unanswered = nil
	}
	return nil
}

// tourOf has a folder of so many photos.
func tourOf(t *testing.T, photos int) *tour {
	t.Helper()
	folder := t.TempDir()
	for i := range photos {
		touch(t, filepath.Join(folder, fmt.Sprintf("%03d.jpg", i)))
	}
	files, err := filesIn(folder)
	if err != nil {
		t.Fatal(err)
	}
	return &tour{options: &options{folder: folder, streamDeadline: time.Hour}, files: files}
}
