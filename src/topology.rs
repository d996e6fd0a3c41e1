//! Assigns cores to threads: the batching thread, the compute threads and the HTTP threads.
//!
//! `Machine::detect` reads which cores this process may use; `plan` is pure and decides; `pin` puts the calling thread on a
//! core. The main thread does this once at start-up; each thread then pins itself.
//!
//! The rules: a step ends when its slowest compute thread ends, and two threads on one physical core run at about half
//! speed each. So there is one compute thread for each physical core. HTTP threads get the other cores: the sibling threads
//! if there are any, otherwise one core in 16 if there are four or more. (A step loses less by a missing core than by
//! waiting for a core that parses JSON.) On three cores or fewer all threads share all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

/// A logical CPU, by the operating system's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub usize);

/// The CPUs that this process may run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The allowed CPUs, grouped by physical core, in ascending order. No group is empty.
    cores: Vec<Vec<CpuId>>,
    /// How many CPUs' worth of time the container grants, at least 1. May be less than the number of CPUs.
    quota: usize,
}

/// The core of each thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// The batching thread's core: the highest of `compute`. ggml assigns the cores of its mask in ascending order, to its
    /// own workers first and to the calling thread last. On any other core the batching thread would share it with a
    /// worker.
    pub batch: CpuId,
    /// One core for each compute thread, including the batching thread.
    pub compute: Vec<CpuId>,
    /// The cores of HTTP threads, assigned round robin. Never empty.
    pub http: Vec<CpuId>,
}

impl Machine {
    /// The CPUs of this process's affinity mask, the physical cores behind them and the container's quota.
    pub fn detect() -> Machine {
        let allowed: Vec<CpuId> = match core_affinity::get_core_ids() {
            Some(ids) if !ids.is_empty() => ids.into_iter().map(|core| CpuId(core.id)).collect(),
            _ => vec![CpuId(0)],
        };
        let quota = std::thread::available_parallelism().map_or(allowed.len(), usize::from);
        Machine::new(&allowed, quota, physical_core)
    }

    /// A machine with the CPUs `allowed`. `physical` gives the physical core of each as `(package, core)`; `None`: a core
    /// of its own.
    ///
    /// # Panics
    /// If `allowed` is empty.
    pub fn new(allowed: &[CpuId], quota: usize, physical: impl Fn(CpuId) -> Option<(usize, usize)>) -> Machine {
        assert!(!allowed.is_empty(), "a process runs on at least one CPU");
        /// Keeps CPUs on unknown cores apart from CPUs on known cores.
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        enum Core {
            Known(usize, usize),
            Own(CpuId),
        }
        let mut groups: BTreeMap<Core, Vec<CpuId>> = BTreeMap::new();
        for &cpu in allowed {
            let core = physical(cpu).map_or(Core::Own(cpu), |(package, core)| Core::Known(package, core));
            groups.entry(core).or_default().push(cpu);
        }
        let mut cores: Vec<_> = groups.into_values().collect();
        cores.iter_mut().for_each(|core| core.sort());
        cores.sort();
        Machine { cores, quota: quota.max(1) }
    }

    /// The number of CPUs this process may run on.
    pub fn cpus(&self) -> usize {
        self.cores.iter().map(Vec::len).sum()
    }

    /// All allowed CPUs, ascending.
    pub fn all(&self) -> Vec<CpuId> {
        let mut all = self.cores.concat();
        all.sort();
        all
    }

    /// The number of physical cores among them.
    pub fn physical_cores(&self) -> usize {
        self.cores.len()
    }

    /// Assigns the cores. `threads`: compute threads; `None`: as many as the rules above give.
    ///
    /// # Errors
    /// More threads than CPUs: two threads on one CPU would wait for each other in every step.
    pub fn plan(&self, threads: Option<usize>) -> Result<CorePlan, String> {
        let first_of_each = self.cores.iter().map(|core| core[0]);
        let siblings = self.cores.iter().flat_map(|core| core[1..].iter().copied());
        let by_preference: Vec<CpuId> = first_of_each.chain(siblings).collect();
        let threads = match threads {
            Some(wanted) if wanted > by_preference.len() => {
                return Err(format!("{wanted} compute threads, but only {} CPUs to run on", by_preference.len()));
            }
            Some(wanted) => wanted.max(1),
            None => self.threads_default(),
        };
        let compute = by_preference[..threads].to_vec();
        let mut http = by_preference[threads..].to_vec();
        if http.is_empty() {
            http = compute.clone();
        }
        http.sort();
        let batch = compute.iter().copied().max().unwrap_or(CpuId(0));
        Ok(CorePlan { batch, compute, http })
    }

    fn threads_default(&self) -> usize {
        let physical = self.cores.len();
        let for_http = match physical {
            _ if self.cpus() > physical => 0,
            0..=3 => 0,
            4.. => physical.div_ceil(16),
        };
        (physical - for_http).min(self.quota)
    }
}

impl CorePlan {
    /// The core of HTTP thread `index`, round robin.
    pub fn http_core(&self, index: usize) -> CpuId {
        self.http[index % self.http.len()]
    }

    /// Whether HTTP threads run on cores of compute threads.
    pub fn shares_cores(&self) -> bool {
        self.http.iter().any(|cpu| self.compute.contains(cpu))
    }
}

impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = if self.shares_cores() { " (shared with compute)" } else { "" };
        let (compute, http) = (CpuList(&self.compute), CpuList(&self.http));
        write!(f, "batch on CPU {}, compute on {compute}, HTTP on {http}{shared}", self.batch.0)
    }
}

/// A list of CPUs in the kernel's format: `0-3,8`.
struct CpuList<'a>(&'a [CpuId]);

impl fmt::Display for CpuList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids: Vec<usize> = self.0.iter().map(|cpu| cpu.0).collect();
        ids.sort_unstable();
        let runs = ids.chunk_by(|a, b| a + 1 == *b);
        for (i, run) in runs.enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                _ => write!(f, "{comma}{}", run[0])?,
            }
        }
        Ok(())
    }
}

/// Pins the calling thread, and every thread that it creates later, to `cpu`. `false`: the system refused.
#[must_use]
pub fn pin(cpu: CpuId) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu.0 })
}

/// `(package, core)` of a CPU, read from Linux; `None` on other systems.
fn physical_core(cpu: CpuId) -> Option<(usize, usize)> {
    let read = |file: &str| -> Option<usize> {
        fs::read_to_string(format!("/sys/devices/system/cpu/cpu{}/topology/{file}", cpu.0)).ok()?.trim().parse().ok()
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(ids: impl IntoIterator<Item = usize>) -> Vec<CpuId> {
        ids.into_iter().map(CpuId).collect()
    }

    fn without_siblings(n: usize) -> Machine {
        Machine::new(&cpus(0..n), n, |_| None)
    }

    #[test]
    fn small_machines_share_all_cores() {
        for n in [1, 2, 3] {
            let plan = without_siblings(n).plan(None).unwrap();
            assert_eq!(plan, CorePlan { batch: CpuId(n - 1), compute: cpus(0..n), http: cpus(0..n) });
            assert!(plan.shares_cores());
        }
        assert_eq!(
            without_siblings(2).plan(None).unwrap().to_string(),
            "batch on CPU 1, compute on 0-1, HTTP on 0-1 (shared with compute)"
        );
    }

    #[test]
    fn larger_machines_keep_cores_for_http() {
        for (n, compute) in [(4, 3), (8, 7), (16, 15), (64, 60)] {
            let plan = without_siblings(n).plan(None).unwrap();
            assert_eq!(plan.compute, cpus(0..compute), "{n} cores");
            assert_eq!(plan.http, cpus(compute..n), "{n} cores");
            assert!(!plan.shares_cores());
        }
    }

    #[test]
    fn compute_takes_one_thread_a_physical_core_and_http_the_siblings() {
        // 8 CPUs, CPU n and n + 4 on one core, as Linux numbers them on most desktops.
        let machine = Machine::new(&cpus(0..8), 8, |cpu| Some((0, cpu.0 % 4)));
        let plan = machine.plan(None).unwrap();
        assert_eq!((plan.compute, plan.http, machine.all()), (cpus(0..4), cpus(4..8), cpus(0..8)));
        // Siblings numbered side by side.
        let machine = Machine::new(&cpus(0..8), 8, |cpu| Some((0, cpu.0 / 2)));
        let plan = machine.plan(None).unwrap();
        assert_eq!((plan.compute, plan.http), (cpus([0, 2, 4, 6]), cpus([1, 3, 5, 7])));
        // With more threads than physical cores, sibling CPUs come after all first ones.
        assert_eq!(machine.plan(Some(6)).unwrap().compute, cpus([0, 2, 4, 6, 1, 3]));
    }

    #[test]
    fn two_packages_with_equal_core_numbers_stay_apart() {
        let machine = Machine::new(&cpus(0..4), 4, |cpu| Some((cpu.0 / 2, cpu.0 % 2)));
        assert_eq!(machine.physical_cores(), 4);
    }

    #[test]
    fn a_restricted_mask_is_never_left() {
        let allowed = cpus([3, 5, 6, 63]);
        let machine = Machine::new(&allowed, 4, |_| None);
        let plan = machine.plan(None).unwrap();
        assert_eq!((plan.batch, plan.http.clone()), (CpuId(6), cpus([63])));
        assert!((0..100).all(|i| allowed.contains(&plan.http_core(i))));
        assert_eq!(plan.to_string(), "batch on CPU 6, compute on 3,5-6, HTTP on 63");
        // One sibling of each core allowed, the other not.
        let machine = Machine::new(&cpus([1, 3]), 2, |cpu| Some((0, cpu.0 / 2)));
        assert_eq!(machine.plan(None).unwrap().compute, cpus([1, 3]));
    }

    #[test]
    fn a_quota_below_the_cpus_limits_compute() {
        let plan = Machine::new(&cpus(0..64), 2, |_| None).plan(None).unwrap();
        assert_eq!((plan.compute.len(), plan.http.len()), (2, 62));
    }

    #[test]
    fn more_threads_than_cpus_are_refused() {
        assert!(without_siblings(2).plan(Some(3)).unwrap_err().contains("only 2 CPUs"));
        let plan = without_siblings(4).plan(Some(4)).unwrap();
        assert!(plan.shares_cores());
        assert_eq!(without_siblings(4).plan(Some(1)).unwrap().http, cpus(1..4));
    }

    #[test]
    fn this_machine_can_be_planned_and_pinned() {
        let machine = Machine::detect();
        let plan = machine.plan(None).unwrap();
        // Runs on another thread, because the pin would stay on the test's.
        assert!(std::thread::spawn(move || pin(plan.batch)).join().unwrap());
    }
}
