"""Where pages with templates of their own find it; goes with the last one."""

from fbq.files import write_atomically as write_atomically
