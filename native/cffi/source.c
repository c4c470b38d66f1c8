#include <fastsocket/fs.h>
#include <fastsocket/uapi.h>
