/* SPDX-License-Identifier: MIT
 *
 * The loads that client.c offers. Each prints the line of samples.h, and returns an exit code.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

/* pingpong.c: messages of `size` bytes there and back on `connections`, for `seconds`. */
int pingpong_echo(int port, int connections, int size, double seconds);

/* WebSocket messages of `size` bytes there and back on `connections`, for `seconds`. */
int pingpong_websocket(int port, int connections, int size, double seconds);

/* Open `connections`, print "open", wait for a line on stdin, then ping-pong on one of them. */
int pingpong_idle(int port, int connections, double seconds);

/* short.c: `count` connections, one request each: all at once if `rate` is 0, else `rate` a second
   at random times. One in `block` (0: none) asks for a handler that blocks; its latency is left
   out. */
int short_run(int port, int count, double rate, int block, int seed);

#endif
