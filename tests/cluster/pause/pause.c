/* The process that holds a pod's namespaces: it sleeps, and reaps the children
 * that are handed to it when the pod shares its process namespace. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int number) { (void)number; _exit(0); }

static void reap(int number) {
  (void)number;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(void) {
  struct sigaction leaving = {.sa_handler = leave};
  struct sigaction reaping = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
  if (sigaction(SIGINT, &leaving, NULL) < 0 || sigaction(SIGTERM, &leaving, NULL) < 0 ||
      sigaction(SIGCHLD, &reaping, NULL) < 0)
    return EXIT_FAILURE;
  for (;;)
    pause();
}
