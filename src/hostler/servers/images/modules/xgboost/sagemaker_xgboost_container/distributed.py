from sagemaker_containers._env import training_only

Rabit = RabitHelper = rabit_run = wait_hostname_resolution = training_only
