//! What the kernel can do only if it was built so: compiled in, or as a module that it loads when it is asked for.

use std::path::Path;

use crate::check::Lack;
use crate::machine::kernel_release;
use crate::read;

/// Whether the kernel has a module, loaded or to be loaded: a promise, no proof. `None` where there are no lists of its
/// modules to tell.
pub fn in_kernel(module: &str) -> Option<bool> {
    if Path::new("/sys/module").join(module).exists() {
        return Some(true);
    }
    let lists = ["modules.builtin", "modules.dep"].map(|list| read(&format!("{}/{list}", folder())));
    let found = lists.iter().any(|list| lists_module(list, module));
    (found || lists.iter().any(|list| !list.is_empty())).then_some(found)
}

fn lists_module(list: &str, module: &str) -> bool {
    // kernel/drivers/net/veth.ko.xz: kernel/net/core/...
    let files = list.lines().filter_map(|line| line.split(':').next()?.rsplit('/').next());
    files.filter_map(|file| file.split_once(".ko")).any(|(name, _)| name.replace('-', "_") == module)
}

/// What is said where the kernel has it neither compiled in nor as a module.
pub fn lack(option: &str) -> Lack {
    let folder = folder();
    if Path::new("/lib/modules").is_dir() && !Path::new(&folder).is_dir() {
        let remedy = format!("was the kernel upgraded? then reboot; else boot one with {option}");
        return Lack::new(format!("not in this kernel, and there is no {folder}"), remedy);
    }
    Lack::new("not in this kernel", format!("boot a distribution's own kernel, or any with {option}"))
}

fn folder() -> String {
    format!("/lib/modules/{}", kernel_release())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_file() {
        let list = "kernel/drivers/net/veth.ko.xz:\nkernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko\n";
        assert!(lists_module(list, "veth") && lists_module(list, "bridge"));
        assert!(!lists_module(list, "llc"), "named as a dependency only");
        assert!(lists_module("kernel/drivers/block/nf-tables.ko.zst:\n", "nf_tables"));
        assert!(!lists_module("", "veth"));
    }
}
