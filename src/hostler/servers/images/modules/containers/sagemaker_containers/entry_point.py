from sagemaker_containers._env import training_only

install = run = training_only
